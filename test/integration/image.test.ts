import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, readFileSync, symlinkSync } from 'node:fs';
import { mkdtemp, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { collect, untilTrue } from '../support/service.ts';

const CHECKOUT = fileURLToPath(new URL('../..', import.meta.url));
const lines = (name: string): string[] => readFileSync(join(CHECKOUT, name), 'utf8').split('\n');

let app: string;
let database: TestDatabase;

/** What the Dockerfile copies, but for what .dockerignore leaves out. */
beforeAll(async () => {
  app = await realpath(await mkdtemp(join(tmpdir(), 'driftstack-image-')));
  const ignored = new Set(lines('.dockerignore').filter((line) => line !== ''));
  for (const line of lines('Dockerfile').filter((one) => one.startsWith('COPY '))) {
    for (const name of line.split(' ').slice(1, -1)) {
      const filter = (from: string): boolean => !ignored.has(relative(CHECKOUT, from));
      cpSync(join(CHECKOUT, name), join(app, name), { recursive: true, filter });
    }
  }
  symlinkSync(join(CHECKOUT, 'node_modules'), join(app, 'node_modules'));
  database = await createTestDatabase();
});
afterAll(async () => {
  await database.drop();
  await rm(app, { recursive: true });
});

const run = (env: Record<string, string>) =>
  spawn(process.execPath, [join(app, 'server/main.ts')], {
    env: { NODE_ENV: 'production', PORT: '0', DATABASE_URL: database.url, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });

it('serves beside the real Stripe without the local one', async () => {
  const child = run({ STRIPE_SECRET_KEY: 'sk_test_1234567890', STRIPE_API_BASE: 'http://127.0.0.1:9' });
  const output = collect(child);
  const ended = once(child, 'exit');
  try {
    await untilTrue(() => child.exitCode !== null || output().includes('"listening"'), 30_000);
    const url = /"url":"(http[^"]+)"/.exec(output())?.[1];
    expect(output()).toContain('"listening"');
    expect((await fetch(`${url}/readyz`)).status).toBe(200);
  } finally {
    child.kill('SIGTERM');
    await ended;
  }
  expect(child.exitCode).toBe(0);
});

it('says what is missing where it is to stand in for Stripe and is not there', async () => {
  const child = run({});
  const output = collect(child);
  await once(child, 'close');
  expect(child.exitCode).toBe(1);
  expect(output()).toBe(
    'STRIPE_SECRET_KEY is missing, and the local Stripe that would stand in is not part of this installation: set it\n',
  );
});
