import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { TRPCError } from '@trpc/server';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connectDatabase, type Database } from '../../server/database/connection.ts';
import { startCrew } from '../../server/database/crew.ts';
import { explainDefect } from '../../server/database/describe-error.ts';
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../../server/database/embedded.ts';
import { Account } from '../../server/database/entities/account.ts';
import { Subscription } from '../../server/database/entities/billing.ts';
import { uuidv7 } from '../../server/database/uuid.ts';
import { createLog } from '../../server/http/log.ts';
import { reasonOf } from '../../server/stripe/sync/failure.ts';
import { startHttp, type TestHttp } from '../support/http.ts';
import { untilTrue } from '../support/service.ts';

/** A value of a row that nobody may meet outside of its row. */
const CANARY = 'canary5f1e';
/** PostgreSQL names them so: not null, foreign key, primary key or unique, check, exclusion. */
const SQL_STATES: Readonly<Record<string, string>> = {
  n: '23502',
  f: '23503',
  p: '23505',
  u: '23505',
  c: '23514',
  x: '23P01',
};

let http: TestHttp;
let db: Database;
/** What goes wrong in the service next. */
let fault: unknown;
beforeAll(async () => {
  const check = () => {
    throw fault;
  };
  http = await startHttp({ deps: { redirects: { check, allows: () => true } } });
  db = http.db;
});
afterAll(() => http.close());

const thrownBy = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => expect.unreachable('should have failed'),
    (error: unknown) => error,
  );

/** Everywhere that an error of a row is told of, as text. */
async function toldOf(fail: () => Promise<unknown>): Promise<Record<string, string>> {
  const error = await thrownBy(fail());
  const lines: string[] = [];
  const log = createLog({ level: 'trace', stream: { write: (line) => void lines.push(line) } });
  log.error({ err: error }, 'it failed');
  log.error({ err: new Error('outer', { cause: error }) }, 'it failed');
  log.error({ err: new TRPCError({ code: 'INTERNAL_SERVER_ERROR', cause: error }) }, 'it failed');
  // As pg-boss tells of it.
  if (error instanceof Error)
    log.error({ err: { ...error, message: error.message, stack: error.stack } }, 'it failed');
  fault = error;
  const { key } = await http.openAccount();
  const before = http.lines.length;
  const answer = await http.call('/v1/billing/trial-pack', {
    key,
    json: { success_url: 'https://your.app/' },
  });
  await untilTrue(() => http.lines.slice(before).some((line) => line.includes('"level":"error"')));
  return {
    'our log': lines.join(''),
    "the service's log": http.lines.slice(before).join(''),
    'the answer': `${answer.status} ${await answer.text()}`,
    'the row of the event': reasonOf(error),
    'a terminal': explainDefect(error),
  };
}

async function constraints(): Promise<{ name: string; type: string; table: string }[]> {
  const { rows } = await db.pool.query<{ name: string; type: string; table: string }>(
    `select conname as name, contype::text as type, conrelid::regclass::text as table from pg_constraint
      where connamespace = 'public'::regnamespace and conrelid <> 0 order by 3, 1`,
  );
  return rows;
}

describe('a refusal by a constraint', () => {
  it('tells of each constraint there is by its name, and nowhere of the row', async () => {
    const all = await constraints();
    expect(all.length).toBeGreaterThan(60);
    for (const { name, type, table } of all) {
      // PostgreSQL's own form of a refusal, with the row in every part that can hold one.
      const raise = `do $$ begin raise exception using errcode = '${SQL_STATES[type]}',
        message = 'refused: ${CANARY}', detail = 'Failing row contains (${CANARY}).', hint = '${CANARY}',
        constraint = '${name}', table = '${table}'; end $$`;
      const error = await thrownBy(db.pool.query(raise));
      expect(error).toMatchObject({ constraint: name, detail: expect.stringContaining(CANARY) });
      const lines: string[] = [];
      const log = createLog({ level: 'trace', stream: { write: (line) => void lines.push(line) } });
      log.error({ err: error }, 'it failed');
      for (const text of [...lines, reasonOf(error), explainDefect(error)]) {
        expect(text).not.toContain(CANARY);
        expect(text).toContain(name);
        expect(text).toContain(SQL_STATES[type]);
      }
    }
  });

  it.each<[string, string, () => Promise<unknown>]>([
    [
      'that is unique, by the ORM',
      '23505',
      () => {
        const twin = () => ({
          id: uuidv7(new Date()),
          email: `${CANARY}@example.com`,
          createdAt: new Date(),
        });
        return db.transaction(async (tx) => {
          tx.create(Account, twin());
          tx.create(Account, twin());
        });
      },
    ],
    [
      'that is a reference, by the ORM',
      '23503',
      () =>
        db.orm.em.fork().insert(Subscription, {
          id: uuidv7(new Date()),
          accountId: uuidv7(new Date()),
          stripeSubscriptionId: CANARY,
          tier: 'api_builder',
          status: 'active',
          billingPeriod: 'monthly',
          currentPeriodStart: new Date(),
          currentPeriodEnd: new Date(),
          cancelAtPeriodEnd: false,
          entitled: true,
          version: 1,
          updatedAt: new Date(),
        }),
    ],
    [
      'that wants a value, by the pool',
      '23502',
      () => db.pool.query('insert into account (id, email) values (null, $1)', [`${CANARY}@example.com`]),
    ],
    [
      'that is a check',
      '23514',
      () =>
        db.pool.query(
          `insert into email (id, account_id, to_address, template, data, natural_key, state, created_at) values (gen_random_uuid(), gen_random_uuid(), '${CANARY}', '${CANARY}', '{}', '${CANARY}', 'none', now())`,
        ),
    ],
    ['of a type, that quotes what it was given', '22P02', () => db.pool.query('select $1::uuid', [CANARY])],
    ['of a statement that quotes itself', '42601', () => db.orm.em.fork().execute(`selec '${CANARY}'`)],
    [
      'of a row that may not be changed',
      'P0001',
      () => db.pool.query(`do $$ begin raise exception '${CANARY}'; end $$`),
    ],
  ])('%s is told without the row everywhere', async (_, code, fail) => {
    const told = await toldOf(fail);
    for (const [where, text] of Object.entries(told)) {
      expect(text, where).not.toContain(CANARY);
      if (where !== 'the answer') expect(text, where).toContain(code);
    }
    expect(told['the answer']).toMatch(/^500 /);
  });
});

describe('work that is broken off by one', () => {
  it('keeps no value in the log of its crew, and a copy of an error that is none is told in words', async () => {
    const lines: string[] = [];
    const log = createLog({ level: 'trace', stream: { write: (line) => void lines.push(line) } });
    let claims = 0;
    const crew = startCrew<string>({
      name: 'canaries',
      places: 1,
      claim: async () => (claims++ === 0 ? ['one'] : []),
      async work() {
        await db.pool.query('insert into account (id, email) values (null, $1)', [`${CANARY}@example.com`]);
      },
      renew: async () => [],
      log,
    });
    crew.wake();
    await untilTrue(() => lines.some((line) => line.includes('work was broken off')));
    await crew.close();
    const copy = { ...new Error(), message: `it has ${CANARY}`, stack: CANARY, queue: 'canaries' };
    const members = { name: 'error', severity: 'ERROR', routine: 'x', code: '23505' };
    log.error({ err: Object.assign(copy, members) }, 'a copy');
    const text = lines.join('');
    expect(text).toContain('23502');
    expect(text).toContain('23505');
    expect(text).not.toContain('[object Object]');
    expect(text).not.toContain(CANARY);
  });
});

describe('the log of the embedded PostgreSQL', () => {
  let dataDir: string;
  let postgres: EmbeddedPostgres;
  beforeAll(async () => {
    dataDir = await mkdtemp(join(tmpdir(), 'driftstack-values-'));
    postgres = await startEmbeddedPostgres({ dataDir, log: () => {}, durable: false });
  });
  afterAll(async () => {
    await postgres?.close();
    await rm(dataDir, { recursive: true, force: true, maxRetries: 20, retryDelay: 20 });
  });

  it('has nothing of a row that was refused, and still tells of PostgreSQL itself', async () => {
    const own = await connectDatabase({ url: postgres.url, poolMax: 1, applicationName: 'values' });
    try {
      await own.pool.query('create table kept (id int primary key, word text check (word = $$x$$))');
      for (const statement of [
        `insert into kept values (1, '${CANARY}')`,
        `insert into kept values (null, '${CANARY}')`,
        `select '${CANARY}'::uuid`,
        `selec '${CANARY}'`,
        `do $$ begin raise exception '${CANARY}'; end $$`,
        `do $$ begin raise warning '${CANARY}'; end $$; select 1/0`,
      ])
        await thrownBy(own.pool.query(statement));
      await own.pool.query('checkpoint');
    } finally {
      await own.close();
    }
    const text = await readFile(join(dataDir, 'postgres.log'), 'utf8');
    expect(text).not.toContain(CANARY);
    expect(text).toContain('ready to accept connections');
    expect(text).toContain('checkpoint');
  });
});
