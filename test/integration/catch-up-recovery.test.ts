import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { AccountSync } from '../../server/database/entities/account.ts';
import { Subscription } from '../../server/database/entities/billing.ts';
import { Email, StripeEvent } from '../../server/database/entities/journal.ts';
import { untilTrue } from '../support/service.ts';
import { addCustomer, type Bench, deliver, openBench, subscription } from '../support/stripe.ts';

const MAIN = fileURLToPath(new URL('../../server/main.ts', import.meta.url));

let bench: Bench;
let resend: Server;
const children: ChildProcess[] = [];
beforeEach(async () => {
  bench = await openBench();
  bench.time.now = new Date();
});
afterEach(async () => {
  for (const child of children.splice(0)) await kill(child);
  await new Promise<void>((resolve) => {
    resend.close(() => resolve());
    resend.closeAllConnections();
  });
  await bench.close();
});

/** A worker process as an operator runs it, against the scripted Stripe. */
async function startWorker(): Promise<ChildProcess> {
  const { PATH = '', HOME = '' } = process.env;
  const child = spawn(process.execPath, [MAIN], {
    env: {
      PATH,
      HOME,
      PORT: '0',
      ROLES: 'worker',
      DATABASE_URL: bench.db.url,
      STRIPE_SECRET_KEY: 'sk_test_scripted',
      STRIPE_API_BASE: bench.stripe.url,
      RESEND_API_KEY: 're_test_123',
      RESEND_BASE_URL: `http://127.0.0.1:${portOf(resend)}`,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  children.push(child);
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => (output += chunk.toString()));
  }
  await untilTrue(() => {
    if (child.exitCode !== null) throw new Error(`the worker ended:\n${output}`);
    return output.includes('listening');
  }, 60_000);
  return child;
}

async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGKILL');
  await ended;
}

// Listening on a port, it has the address of one.
const portOf = (server: Server) => (server.address() as AddressInfo).port;
const em = () => bench.db.orm.em.fork();
/** Accounts that somebody works on. */
const leased = () => em().count(AccountSync, { leasedUntil: { $ne: null } });

it('finishes the events and mails of a worker that was killed within five seconds of its successor', {
  timeout: 180_000,
}, async () => {
  let stuck = true;
  /** By idempotency key, how many mails a request had. */
  const requests = new Map<string, number>();
  const mails = () => [...requests.values()].reduce((sum, count) => sum + count, 0);
  resend = createServer(async (request, response) => {
    const sent = JSON.parse(await text(request));
    const answer = Array.isArray(sent) ? { data: sent.map(() => ({ id: 'mail_1' })) } : { id: 'mail_1' };
    requests.set(String(request.headers['idempotency-key']), Array.isArray(sent) ? sent.length : 1);
    if (!stuck) response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(answer));
  });
  await new Promise<void>((resolve) => resend.listen(0, '127.0.0.1', resolve));
  const first = await startWorker();

  // One account is done up to its mail, whose sending hangs; then Stripe hangs for three more.
  const done = await addCustomer(bench);
  const sub = bench.stripe.put(subscription({ customer: done.customer }));
  await deliver(bench, 'customer.subscription.created', sub);
  await untilTrue(() => mails() === 1);
  bench.stripe.interfere(() => (stuck ? { kind: 'hang' } : undefined));
  const accounts = await Promise.all(Array.from({ length: 3 }, () => addCustomer(bench)));
  for (const { customer } of accounts) {
    await deliver(bench, 'customer.subscription.created', bench.stripe.put(subscription({ customer })));
  }
  await untilTrue(async () => (await leased()) === 3);
  await kill(first);
  stuck = false;

  await startWorker();
  await untilTrue(
    async () => (await em().count(StripeEvent, { state: 'received' })) === 0 && mails() === 4,
    5_000,
  );
  expect(await em().count(StripeEvent, { state: 'done' })).toBe(4);
  for (const { accountId } of accounts) {
    expect(await em().findOne(Subscription, { accountId })).toMatchObject({
      tier: 'api_builder',
      version: 1,
    });
  }
  await untilTrue(async () => (await em().count(Email, { state: 'sent' })) === 4);
  expect(await em().count(Email)).toBe(4);
});
