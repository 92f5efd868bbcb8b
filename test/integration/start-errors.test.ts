import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, readFile, rm, unlink, writeFile } from 'node:fs/promises';
import { createServer as createHttpServer } from 'node:http';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { TLSSocket } from 'node:tls';
import { promisify } from 'node:util';
import { Client } from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, inject, it } from 'vitest';
import { refuseOld } from '../../server/database/connection.ts';
import { startEmbeddedPostgres } from '../../server/database/embedded.ts';
import { CERTIFICATE, TEST_KEY } from '../support/certificates.ts';
import { runCli } from '../support/cli.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { runMain } from '../support/service.ts';

const REAL_STRIPE = {
  STRIPE_SECRET_KEY: 'sk_test_1234567890',
  STRIPE_API_BASE: 'http://127.0.0.1:9',
  STRIPE_WEBHOOK_SECRETS: 'whsec_1234567890',
};

/** What ended a start is one line that says what to do: no stack, and none of the secrets. */
function expectSentence(output: string, pattern: RegExp): void {
  const lines = output
    .trim()
    .split('\n')
    .filter((line) => !line.endsWith(' …'));
  expect(lines).toEqual([expect.stringMatching(pattern)]);
  expect(output).not.toMatch(/^\s+at |node_modules|hunter2/m);
}

describe('a database that cannot be used is told in a sentence, by the start and by every command', () => {
  let database: TestDatabase;
  let plain: Server;
  const servers: Server[] = [];
  let port: number;

  beforeAll(async () => {
    database = await createTestDatabase('template0');
    plain = createHttpServer((_request, response) => response.end('no')).listen(0, '127.0.0.1');
    await once(plain, 'listening');
    const address = plain.address();
    port = typeof address === 'object' && address !== null ? address.port : 0;
  });
  afterAll(async () => {
    for (const server of [plain, ...servers]) server.close();
    await database.drop();
    const admin = new Client({ connectionString: inject('adminUrl') });
    await admin.connect();
    await admin.query(`drop role if exists ${new URL(database.url).pathname.slice(1)}`);
    await admin.end();
  });

  const urlWith = (change: (url: URL) => void): string => {
    const url = new URL(database.url);
    change(url);
    return url.href;
  };

  const cases: [string, () => string | Promise<string>, RegExp][] = [
    ['a wrong password', () => urlWith((url) => (url.password = 'hunter2')), /password; correct them/],
    ['no password', () => urlWith((url) => (url.password = '')), /there is none in the URL/],
    ['an unknown user', () => urlWith((url) => (url.username = 'nobody_here')), /user name or the password/],
    ['an unknown host', () => urlWith((url) => (url.hostname = 'no-such-host.invalid')), /host/],
    ['a port where nobody listens', () => urlWith((url) => (url.port = '9')), /nothing listens there/],
    ['a server without TLS', () => urlWith((url) => (url.search = '?sslmode=require')), /offers no TLS/],
    [
      'a certificate that nobody trusted vouches for',
      async () => {
        const withTls = createServer((socket) => {
          // PostgreSQL's "yes" to the question whether it speaks TLS.
          socket.once('data', () => {
            socket.write('S');
            new TLSSocket(socket, { isServer: true, key: TEST_KEY, cert: CERTIFICATE }).on('error', () => {});
          });
        }).listen(0, '127.0.0.1');
        await once(withTls, 'listening');
        servers.push(withTls);
        const address = withTls.address();
        const at = typeof address === 'object' && address !== null ? address.port : 0;
        return urlWith((url) => {
          url.port = String(at);
          url.search = '?sslmode=require';
        });
      },
      /vouches for the certificate/,
    ],
    ['something else on the port', () => urlWith((url) => (url.port = String(port))), /cannot be used/],
    [
      'a user without rights',
      async () => {
        const name = new URL(database.url).pathname.slice(1);
        const admin = new Client({ connectionString: inject('adminUrl') });
        await admin.connect();
        await admin.query(`create role ${name} login password 'hunter2'`);
        await admin.end();
        return urlWith((url) => {
          url.username = name;
          url.password = 'hunter2';
        });
      },
      /lacks a right|is behind/,
    ],
  ];
  it.each(cases)('%s', async (_what, urlOf, pattern) => {
    const databaseUrl = await urlOf();
    const started = await runMain({ ...REAL_STRIPE, DATABASE_URL: databaseUrl, PORT: '0' });
    expect(started.code).toBe(1);
    expectSentence(started.output, pattern);
    const command = await runCli({ databaseUrl, stripeUrl: 'http://127.0.0.1:9' }, 'migrate');
    expect(command.code).toBe(1);
    expectSentence(command.err, pattern);
  });

  it('a mistyped name is not a new database', async () => {
    const databaseUrl = urlWith((url) => (url.pathname += '_mistyped'));
    const started = await runMain({ ...REAL_STRIPE, DATABASE_URL: databaseUrl, PORT: '0' });
    expectSentence(started.output, /^DATABASE_URL: .*no such database.*create it/);
    for (const args of [['migrate'], ['accounts', 'create', '--email', 'a@b.test']]) {
      const { code, err } = await runCli({ databaseUrl, stripeUrl: 'http://127.0.0.1:9' }, ...args);
      expect(code).toBe(1);
      expectSentence(err, /no such database/);
    }
    const admin = new Client({ connectionString: inject('adminUrl') });
    await admin.connect();
    const { rows } = await admin.query('select datname from pg_database where datname like $1', [
      '%mistyped',
    ]);
    await admin.end();
    expect(rows).toEqual([]);
  });

  it('an old server', () => {
    expect(() => refuseOld(130_016)).toThrow(/PostgreSQL 13; 14 or newer is needed/);
    expect(() => refuseOld(140_000)).not.toThrow();
  });
});

describe('what lies in DATA_DIR and cannot be used is told in a sentence', () => {
  let dataDir: string;
  const local = () => ({ DATA_DIR: dataDir, PORT: '0', SANDBOX_PORT: '0' });

  beforeEach(async () => {
    dataDir = await mkdtemp(join(tmpdir(), 'driftstack-start-errors-'));
  });
  afterEach(() => rm(dataDir, { recursive: true }));

  let startedBefore: string;
  beforeAll(async () => {
    startedBefore = await mkdtemp(join(tmpdir(), 'driftstack-start-before-'));
    await (await startEmbeddedPostgres({ dataDir: startedBefore, log: () => undefined })).close();
  });
  afterAll(() => rm(startedBefore, { recursive: true }));

  /** A cluster as a start before has left it. */
  async function cluster(): Promise<string> {
    // With owners and modes, which Node's own copy does not keep.
    await promisify(execFile)('cp', ['-a', startedBefore, join(dataDir, 'postgres')]);
    return join(dataDir, 'postgres', 'cluster');
  }

  const damages: [string, (cluster: string) => Promise<void>, RegExp][] = [
    [
      'garbage in PG_VERSION',
      (at) => writeFile(join(at, 'PG_VERSION'), 'x\0y'),
      /damaged.*PG_VERSION.*delete it/,
    ],
    ['no PG_VERSION', (at) => unlink(join(at, 'PG_VERSION')), /damaged.*PG_VERSION/],
    ['another major version', (at) => writeFile(join(at, 'PG_VERSION'), '17\n'), /version 17.*pg_dump/],
    [
      'no pg_control',
      (at) => unlink(join(at, 'global', 'pg_control')),
      /pg_control.*delete it to begin anew/,
    ],
    [
      'a torn pg_control',
      (at) => writeFile(join(at, 'global', 'pg_control'), Buffer.alloc(8192, 7)),
      /did not start.*delete it to begin anew/,
    ],
    [
      'no password',
      (at) => unlink(join(at, '..', 'password')),
      /password is missing.*delete it to begin anew/,
    ],
    [
      'another password',
      (at) => writeFile(join(at, '..', 'password'), 'hunter2'),
      /embedded PostgreSQL .*password/,
    ],
    [
      'something else as lock',
      (at) => writeFile(join(at, '..', 'owner.lock'), 'x'.repeat(4096)),
      /owner\.lock/,
    ],
  ];
  it.each(damages)('%s', async (_what, damage, pattern) => {
    await damage(await cluster());
    const { code, output } = await runMain(local());
    expect(code).toBe(1);
    expectSentence(output, pattern);
    expect((await readdir(join(dataDir, 'postgres', 'cluster'))).length).toBeGreaterThan(10);
    const command = await runCli(
      { databaseUrl: '', stripeUrl: '', env: local() },
      'accounts',
      'create',
      '--email',
      'a@b.test',
    );
    expect(command.code).toBe(1);
    expectSentence(command.err, pattern);
  });

  it('another process has it', async () => {
    const postgres = await startEmbeddedPostgres({
      dataDir: join(dataDir, 'postgres'),
      log: () => undefined,
    });
    try {
      expectSentence((await runMain(local())).output, new RegExp(`already in use by process ${process.pid}`));
    } finally {
      await postgres.close();
    }
  });

  it('a path that can be no directory', async () => {
    await writeFile(join(dataDir, 'file'), '');
    const { code, output } = await runMain({ ...local(), DATA_DIR: join(dataDir, 'file', 'data') });
    expect(code).toBe(1);
    expectSentence(output, /a part of the path is no directory/);
  });

  it('the state of the local Stripe is damaged, which is not said to be in use', async () => {
    await writeFile(join(dataDir, 'stripe.sqlite'), 'not a database'.repeat(500));
    const { code, output } = await runMain(local());
    expect(code).toBe(1);
    expectSentence(output, /stripe\.sqlite is damaged.*delete it to begin anew/);
    expect(await readFile(join(dataDir, 'stripe.sqlite'), 'utf8')).toMatch(/^not a database/);
  });

  it('a key of webhook secrets that is none', async () => {
    await writeFile(join(dataDir, 'webhook-secret-key'), 'hunter2');
    expectSentence((await runMain(local())).output, /webhook-secret-key does not hold the 32 bytes/);
    await unlink(join(dataDir, 'webhook-secret-key'));
    await mkdir(join(dataDir, 'webhook-secret-key'));
    expectSentence((await runMain(local())).output, /webhook-secret-key cannot be read .*EISDIR/);
  });
});

describe('a configuration that cannot work is told before anything is started', () => {
  let dataDir: string;

  beforeAll(async () => {
    dataDir = await mkdtemp(join(tmpdir(), 'driftstack-start-config-'));
  });
  afterAll(() => rm(dataDir, { recursive: true }));

  const elsewhere = 'https://elsewhere.test/';
  const cases: [string, Record<string, string>, string][] = [
    [
      'addresses that are not on the allowlist',
      {
        BILLING_REDIRECT_ALLOWLIST: 'https://your.app',
        CHECKOUT_SUCCESS_URL: elsewhere,
        CHECKOUT_CANCEL_URL: 'https://your.app/cancel',
        PORTAL_RETURN_URL: elsewhere,
      },
      'CHECKOUT_SUCCESS_URL is not on BILLING_REDIRECT_ALLOWLIST\nPORTAL_RETURN_URL is not on BILLING_REDIRECT_ALLOWLIST\n',
    ],
    [
      'an address beside no allowlist',
      { CHECKOUT_CANCEL_URL: elsewhere },
      'CHECKOUT_CANCEL_URL is not on BILLING_REDIRECT_ALLOWLIST\n',
    ],
    [
      'an allowlist that nobody may have',
      { BILLING_REDIRECT_ALLOWLIST: 'https://*.github.io' },
      'BILLING_REDIRECT_ALLOWLIST: ',
    ],
    ['a key that is none', { WEBHOOK_SECRET_KEY: 'hunter2' }, 'WEBHOOK_SECRET_KEY must be 32 random bytes'],
  ];
  it.each(cases)('%s', async (_what, given, expected) => {
    const { code, output } = await runMain({ DATA_DIR: dataDir, PORT: '0', SANDBOX_PORT: '0', ...given });
    expect([code, output.slice(0, expected.length)]).toEqual([1, expected]);
    expect(output).not.toMatch(/hunter2|starting| {2}at /);
    expect(await readdir(dataDir)).toEqual([]);
  });
});

describe('a port that cannot be had is told before anything is started', () => {
  let taken: Server;
  let port: string;
  let dataDir: string;

  beforeAll(async () => {
    dataDir = await mkdtemp(join(tmpdir(), 'driftstack-start-ports-'));
    taken = createServer().listen(0, '127.0.0.1');
    await once(taken, 'listening');
    const address = taken.address();
    port = String(typeof address === 'object' && address !== null ? address.port : 0);
  });
  afterAll(async () => {
    taken.close();
    await rm(dataDir, { recursive: true });
  });

  it.each(['PORT', 'SANDBOX_PORT', 'OPS_PORT'])('%s', async (name) => {
    const free = { PORT: '0', SANDBOX_PORT: '0', DATA_DIR: dataDir };
    const { code, output } = await runMain({ ...free, [name]: port });
    expect(code).toBe(1);
    expect(output).toBe(`${name} ${port} is in use by another process; stop it, or choose another port\n`);
    expect(await readdir(dataDir)).toEqual([]);
  });

  it('asked for twice', async () => {
    const { code, output } = await runMain({ PORT: '18099', SANDBOX_PORT: '18099', DATA_DIR: dataDir });
    expect([code, output]).toEqual([1, 'SANDBOX_PORT 18099 is given to another variable too\n']);
  });
});
