import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { clientOf, eventually, receiver } from './support/api.ts';

const MAIN = new URL('../main.ts', import.meta.url).pathname;

/** Starts the local Stripe as its own process and answers once it prints its address. */
async function start(dataPath: string): Promise<{ child: ChildProcess; port: number }> {
  const child = spawn(process.execPath, [MAIN, '--port', '0', '--data', dataPath], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  onTestFinished(() => void child.kill('SIGKILL'));
  for await (const chunk of child.stdout) {
    const port = /answers on http:\/\/127\.0\.0\.1:(\d+)/.exec(String(chunk))?.[1];
    if (port !== undefined) return { child, port: Number(port) };
  }
  throw new Error('the local Stripe did not start');
}

it('a process killed at any moment doubles nothing and loses no webhook', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'local-stripe-'));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  const dataPath = join(directory, 'stripe.db');
  const { url, received } = await receiver();
  let { child, port } = await start(dataPath);
  await clientOf(port).webhookEndpoints.create({ url, enabled_events: ['customer.created'] });
  for (let round = 0; round < 3; round++) {
    const stripe = clientOf(port);
    const create = (client: typeof stripe, i: number) =>
      client.customers.create({ name: `${round}-${i}` }, { idempotencyKey: `${round}-${i}` });
    const calls = Array.from({ length: 60 }, (_, i) => create(stripe, i).catch(() => null));
    await Promise.race(calls);
    child.kill('SIGKILL');
    await once(child, 'exit');
    await Promise.all(calls);
    ({ child, port } = await start(dataPath));
    const again = clientOf(port);
    await Promise.all(Array.from({ length: 60 }, (_, i) => create(again, i)));
  }
  const stripe = clientOf(port);
  const names: string[] = [];
  for await (const { name } of stripe.customers.list({ limit: 100 })) names.push(String(name));
  expect(names).toHaveLength(180);
  expect(new Set(names).size).toBe(180);
  const delivered = () => new Set(received.map(({ body }) => JSON.parse(body).data.object.name)).size;
  await eventually('every customer told at least once', () => delivered() === 180);
  expect(new Set(received.map(({ body }) => JSON.parse(body).id)).size).toBe(180);
}, 60_000);
