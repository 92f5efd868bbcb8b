import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Driftstack } from '../../shared/client.ts';
import { type BillingEvent, EVENT_TYPES } from '../../shared/events.ts';
import { collect, type Service, startService, untilTrue } from '../support/service.ts';
import { type Received, type Receiver, startReceiver } from '../support/webhooks.ts';

const CHECKOUT = fileURLToPath(new URL('../..', import.meta.url));
const PROGRAMS = ['receiver.ts', 'receiver-standard.ts'] as const;
type Program = (typeof PROGRAMS)[number];

/** A program of the webhooks README beside what a checkout has, and what passed on its way to it. */
type Customer = {
  readonly secret: string;
  readonly endpointId: string;
  readonly programUrl: string;
  readonly child: ChildProcess;
  readonly output: () => string;
  readonly door: Receiver;
  /** What the program answered to each delivery. */
  readonly answers: number[];
};

let directory: string;
let service: Service;
let client: Driftstack;
const customers = new Map<Program, Customer>();
let events: BillingEvent[];

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'driftstack-receivers-'));
  await saveReadmePrograms();
  service = await startService(join(directory, 'data'));
  client = new Driftstack({ apiKey: service.apiKey, baseUrl: service.apiUrl });
  for (const program of PROGRAMS) customers.set(program, await startCustomer(program));
  await buyAndCancelEverything();
  events = await feed();
}, 120_000);
afterAll(async () => {
  for (const { child, door } of customers.values()) {
    const ended = once(child, 'exit');
    child.kill();
    await ended;
    await door.close();
  }
  await service?.stop();
  await rm(directory, { recursive: true, force: true });
});

/** The code blocks of the webhooks README, each under the name in its first line, in a folder that looks like the checkout. */
async function saveReadmePrograms(): Promise<void> {
  const readme = await readFile(join(CHECKOUT, 'server/webhooks/README.md'), 'utf8');
  const folder = join(directory, 'customer');
  await mkdir(folder);
  for (const name of ['shared', 'node_modules', 'package.json'])
    await symlink(join(CHECKOUT, name), join(folder, name));
  for (const program of PROGRAMS) {
    const block = new RegExp(`\`\`\`ts\n(// ${program}\n[^]*?)\`\`\``).exec(readme)?.[1];
    if (block === undefined) throw new Error(`The README has no ${program}`);
    await writeFile(join(folder, program), block);
  }
}

/** Registers an endpoint and runs the program with its secret. What is sent to it passes through a door of ours. */
async function startCustomer(program: Program): Promise<Customer> {
  const door = await startReceiver();
  const { id: endpointId, secret } = await client.webhooks.create({
    url: door.url,
    events: [...EVENT_TYPES],
  });
  const { PATH = '', HOME = '' } = process.env;
  const port = await freePort();
  const child = spawn(process.execPath, [program], {
    cwd: join(directory, 'customer'),
    env: { PATH, HOME, WEBHOOK_SECRET: secret, PORT: String(port) },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const output = collect(child);
  const programUrl = `http://127.0.0.1:${port}/in`;
  await untilTrue(async () => {
    if (child.exitCode !== null) throw new Error(`${program} ended with ${child.exitCode}:\n${output()}`);
    return await fetch(programUrl).then(
      () => true,
      () => false,
    );
  });
  const answers: number[] = [];
  door.answer(async (got, response) => {
    const status = await send(programUrl, got);
    answers.push(status);
    response.writeHead(status).end();
  });
  return { secret, endpointId, programUrl, child, output, door, answers };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  // A server that listens on a port has an address with one.
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

/** Passes on what was received, as it was received, and answers the status. */
async function send(url: string, { headers, body }: Pick<Received, 'headers' | 'body'>): Promise<number> {
  const kept = Object.entries(headers).flatMap(([name, value]) =>
    /^(x-driftstack|webhook)-|^content-type$/.test(name) ? [[name, String(value)] as const] : [],
  );
  return (await fetch(url, { method: 'POST', headers: Object.fromEntries(kept), body })).status;
}

it('both receivers of the webhooks README have no mistake in their types', async () => {
  const folder = join(directory, 'customer');
  const config = { extends: join(CHECKOUT, 'tsconfig.json'), include: PROGRAMS };
  await writeFile(join(folder, 'tsconfig.json'), JSON.stringify(config));
  const tsc = join(CHECKOUT, 'node_modules', '.bin', 'tsc');
  const { stdout } = await promisify(execFile)(tsc, ['-p', folder]);
  expect(stdout).toBe('');
});

it('both receivers of the webhooks README verify and handle all four events, caused by what a customer does', async () => {
  expect(new Set(events.map(({ type }) => type))).toEqual(new Set(EVENT_TYPES));
  for (const { output, door, answers, endpointId } of customers.values()) {
    const delivered = async () => (await client.webhooks.get(endpointId)).delivery_counts.delivered;
    await untilTrue(async () => (await delivered()) >= events.length);
    const bodies = door.received.slice(0, events.length).map(({ body }) => JSON.parse(body));
    expect(bodies.map(({ id }) => id)).toEqual(events.map(({ id }) => id));
    expect(new Set(answers)).toEqual(new Set([204]));
    expect(handled(output)).toEqual(events.map(({ type }) => type));
  }
});

it('both receivers of the webhooks README handle an event that is replayed no second time', async () => {
  for (const { output, answers, endpointId } of customers.values()) {
    await untilTrue(() => answers.length >= events.length);
    const before = answers.length;
    const [delivery] = (await client.webhooks.listDeliveries(endpointId, { limit: 1 })).data;
    await client.webhooks.replayDelivery(delivery?.id ?? '');
    await untilTrue(() => answers.length > before);
    expect(answers.at(-1)).toBe(204);
    expect(handled(output)).toEqual(events.map(({ type }) => type));
  }
});

it('both receivers of the webhooks README refuse what we did not send, and handle nothing of it', async () => {
  for (const { output, door, answers, programUrl } of customers.values()) {
    await untilTrue(() => answers.length >= events.length);
    const [got] = door.received;
    if (!got) throw new Error('nothing was delivered');
    expect(await send(programUrl, got)).toBe(204);
    const event: object = JSON.parse(got.body);
    const forged = JSON.stringify({ ...event, id: 'evt_01890a5d-ac96-774b-bcce-b302099a8057' });
    const unsigned = { 'content-type': 'application/json' };
    const strangers = [...customers.values()].find((other) => other.door !== door)?.door.received[0]?.headers;
    for (const [headers, body] of [
      [got.headers, forged],
      [got.headers, `${got.body} `],
      [unsigned, forged],
      [strangers ?? {}, got.body],
    ] as const)
      expect(await send(programUrl, { headers, body })).toBe(400);
    expect(handled(output)).toEqual(events.map(({ type }) => type));
  }
});

/** Everything that customers are told of, by what they do; the account is new. */
async function buyAndCancelEverything(): Promise<void> {
  await pay((await client.billing.startTrialPack()).checkout_url);
  await untilEvent(({ type }) => type === 'trial_pack.purchased');
  await post(`${service.stripeUrl}/_sandbox/clock`, { skipSeconds: 14 * 86_400 });
  await untilEvent(({ type }) => type === 'trial_pack.expired');

  const plan = { tier: 'api_builder', billing_period: 'monthly' } as const;
  await pay((await client.billing.startCheckoutSession(plan)).checkout_url);
  await untilEvent(({ type }) => type === 'subscription.changed');
  await upgradeInPortal(/API Scale/);
  await untilEvent(
    ({ data }) =>
      'subscription' in data &&
      data.previous?.tier === 'api_builder' &&
      data.subscription.tier === 'api_scale',
  );
  await cancelInPortal();
  await untilEvent(({ data }) => 'subscription' in data && data.subscription.cancel_at_period_end);
  // What was paid for is over.
  await post(`${service.stripeUrl}/_sandbox/clock`, { skipSeconds: 32 * 86_400 });
  await untilEvent(({ type }) => type === 'subscription.cancelled');
}

/** The types in what a program printed: one line for each event it handled. */
function handled(output: () => string): string[] {
  return output()
    .split('\n')
    .flatMap((line) => EVENT_TYPES.filter((type) => line.startsWith(`${type} `)));
}

async function feed(): Promise<BillingEvent[]> {
  const all: BillingEvent[] = [];
  for await (const event of client.billing.events.iterate({ after: 0 })) all.push(event);
  return all;
}

async function untilEvent(is: (event: BillingEvent) => boolean): Promise<void> {
  await untilTrue(async () => (await feed()).some(is), 20_000);
}

/** Types a test card into the hosted page. */
async function pay(checkoutUrl: string): Promise<void> {
  await submit(checkoutUrl, { method: 'card', number: '4242424242424242', expiry: '12 / 40', cvc: '123' });
}

async function upgradeInPortal(plan: RegExp): Promise<void> {
  const visit = await openPortal();
  const page = await (await fetch(`${visit}/plans`)).text();
  const choices = [...page.matchAll(/name="price" value="([^"]+)"[^>]*><span><b>([^<]+)/g)];
  const price = choices.find(([, , name = '']) => plan.test(name))?.[1];
  await submit(`${visit}/plan`, { price: price ?? '' });
}

async function cancelInPortal(): Promise<void> {
  await submit(`${await openPortal()}/cancel`, {});
}

/** The address of a visit: the link itself opens once. */
async function openPortal(): Promise<string> {
  return (await fetch((await client.billing.startPortalSession()).portal_url)).url;
}

async function submit(url: string, fields: Record<string, string>): Promise<void> {
  const answer = await fetch(url, { method: 'POST', body: new URLSearchParams(fields) });
  if (!answer.ok) throw new Error(`${url}: ${answer.status} ${await answer.text()}`);
}

async function post(url: string, body: object): Promise<void> {
  const headers = { 'content-type': 'application/json' };
  const answer = await fetch(url, { method: 'POST', headers, body: JSON.stringify(body) });
  if (!answer.ok) throw new Error(`${url}: ${answer.status} ${await answer.text()}`);
}
