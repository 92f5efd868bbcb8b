import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { collect, spawnMain, untilTrue } from '../support/service.ts';

let database: TestDatabase;
let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'loaded-'));
  database = await createTestDatabase();
});
afterAll(async () => {
  await database.drop();
  await rm(directory, { recursive: true });
});

/** What a service with these roles has loaded by the time it is ready: packages by name, files of ours by path. */
async function loadedBy(roles: string): Promise<string[]> {
  const list = join(directory, roles);
  const child = spawnMain({
    NODE_OPTIONS: `--import=${new URL('../support/own-loaded.ts', import.meta.url)}`,
    LOADED_TO: list,
    DATABASE_URL: database.url,
    STRIPE_SECRET_KEY: 'sk_test_1234567890',
    STRIPE_API_BASE: 'http://127.0.0.1:9',
    STRIPE_WEBHOOK_SECRETS: 'whsec_1234567890',
    RESEND_API_KEY: 're_1234567890',
    RESEND_BASE_URL: 'http://127.0.0.1:9',
    WEBHOOK_SECRET_KEY: Buffer.alloc(32, 1).toString('base64'),
    ROLES: roles,
    PORT: '0',
  });
  const output = collect(child);
  const ended = once(child, 'exit');
  try {
    await untilTrue(() => child.exitCode !== null || output().includes('"listening"'), 30_000);
    const url = /"url":"(http[^"]+)"/.exec(output())?.[1];
    expect((await fetch(`${url}/readyz`)).status, output()).toBe(200);
    expect((await fetch(`${url}/metrics`)).status).toBe(200);
  } finally {
    child.kill('SIGTERM');
    await ended;
  }
  const urls = (await readFile(list, 'utf8')).split('\n').filter((url) => url.startsWith('file:'));
  return [...new Set(urls.map(nameOf))];
}

function nameOf(url: string): string {
  const [, name] = /.*\/node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(url) ?? [];
  return name ?? url.slice(url.search(/(?:server|shared|migrations|test)\//));
}

/** For pages, documents and mails, and for other servers than ours: each would stay in memory for good. */
const HEAVY = [
  'trpc-to-openapi',
  'zod-openapi',
  'openapi3-ts',
  'yaml',
  'h3',
  'ajv',
  '@fastify/ajv-compiler',
  '@fastify/fast-json-stringify-compiler',
  '@scalar/fastify-api-reference',
  '@react-email/render',
  'react',
  'react-dom',
  'server/api/openapi.ts',
  'server/notify/render.ts',
  'server/welcome.ts',
  'server/local.ts',
];

/** What only a worker works with. */
const WORK = [
  'resend',
  'server/worker.ts',
  'server/notify/mailer.ts',
  'server/webhooks/dispatch.ts',
  'server/stripe/repair/sweep.ts',
];

it('loads nothing heavy before somebody asks for it, whatever its roles', async () => {
  const loaded = await loadedBy('api,webhooks,worker');
  for (const needed of [...WORK, 'fastify', 'stripe', 'server/http/rest.ts'])
    expect(loaded).toContain(needed);
  expect(HEAVY.filter((name) => loaded.includes(name))).toEqual([]);
});

it('loads nothing of the worker where it only answers', async () => {
  const loaded = await loadedBy('api,webhooks');
  expect(loaded).toContain('server/http/rest.ts');
  expect([...HEAVY, ...WORK].filter((name) => loaded.includes(name))).toEqual([]);
});
