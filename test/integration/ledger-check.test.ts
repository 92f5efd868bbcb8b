import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { checkLedger } from '../../server/credit/check.ts';
import { verifyLedger } from '../../server/credit/ledger.ts';
import { reportUse } from '../../server/credit/report-use.ts';
import { connectDatabase, type Database } from '../../server/database/connection.ts';
import { databaseNow } from '../../server/database/now.ts';
import { uuidv7 } from '../../server/database/uuid.ts';
import { formatId } from '../../shared/ids.ts';
import { runCli } from '../support/cli.ts';
import { openPack, tellPack } from '../support/credit.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';

const clock = { now: () => new Date() };

let database: TestDatabase;
let db: Database;
let accountId: string;

beforeEach(async () => {
  database = await createTestDatabase();
  db = await connectDatabase({ url: database.url, poolMax: 4, applicationName: 'ledger-check-test' });
  await openPack(db);
  accountId = await openPack(db);
  for (let n = 1; n <= 3; n++) {
    const now = clock.now();
    const use = { accountId, reportId: uuidv7(now), sessionId: 's', seconds: n, usedAt: now };
    await reportUse({ db, clock }, use);
  }
});

afterEach(async () => {
  await db?.close();
  await database?.drop();
});

/** As somebody who owns the database could. */
async function tamper(statement: string): Promise<void> {
  const client = await db.pool.connect();
  try {
    await client.query('begin');
    await client.query('set local session_replication_role = replica');
    await client.query(statement, [accountId]);
    await client.query('commit');
  } finally {
    client.release();
  }
}

const fault = (over: object) => ({
  accountId,
  position: null,
  balance: 59_794,
  sumOfEntries: 59_794,
  held: 0,
  sumOfReservations: 0,
  ...over,
});

describe('proving the ledger', () => {
  test('finds nothing where nothing is wrong', async () => {
    expect(await verifyLedger(db)).toEqual([]);
  });

  test.each([
    [
      'an entry that was changed',
      'update credit_entry set seconds = -1 where account_id = $1 and position = 3',
      { position: 3, sumOfEntries: 59_795 },
    ],
    [
      'an entry that was taken out',
      'delete from credit_entry where account_id = $1 and position = 2',
      { position: 3, sumOfEntries: 59_795 },
    ],
    [
      'the last entry taken out',
      'delete from credit_entry where account_id = $1 and position = 4',
      { sumOfEntries: 59_797 },
    ],
    [
      'a balance that was changed',
      'update trial_pack set remaining_seconds = 59800 where account_id = $1',
      { balance: 59_800 },
    ],
    [
      'credit that is held by nobody',
      'update trial_pack set held_seconds = 5 where account_id = $1',
      { held: 5 },
    ],
    ['all entries taken out', 'delete from credit_entry where account_id = $1', { sumOfEntries: 0 }],
  ])('finds %s, and where it begins', async (_what, statement, found) => {
    await tamper(statement);
    expect(await verifyLedger(db)).toEqual([fault(found)]);
    expect(await verifyLedger(db, accountId)).toEqual([fault(found)]);
  });
});

test('finds that a report of which nothing was accepted was taken out', async () => {
  const report = async () => {
    const now = clock.now();
    await reportUse(
      { db, clock },
      { accountId, reportId: uuidv7(now), sessionId: 's', seconds: 1, usedAt: now },
    );
  };
  await tellPack(db, accountId, { disputeStatuses: ['needs_response'] });
  await report();
  await tellPack(db, accountId, { disputeStatuses: ['won'] });
  await report();
  await tamper('delete from credit_entry where account_id = $1 and seconds = 0');
  expect(await verifyLedger(db)).toEqual([fault({ position: 6, balance: 59_793, sumOfEntries: 59_793 })]);
});

describe('the hourly check', () => {
  const lines: object[] = [];
  const log = {
    info: () => undefined,
    warn: () => undefined,
    error: (details: object) => void lines.push(details),
  };

  test('is done by one of all processes, tells the log of what is wrong, and is due again after an hour', async () => {
    await tamper('update trial_pack set remaining_seconds = 1 where account_id = $1');
    const now = clock.now();
    const at = (ms: number) => ({ db, log, clock: { now: () => new Date(now.getTime() + ms) } });
    const all = await Promise.all([checkLedger(at(0)), checkLedger(at(0)), checkLedger(at(0))]);
    expect(all.filter((faults) => faults !== null)).toEqual([[fault({ balance: 1 })]]);
    expect(lines).toEqual([fault({ balance: 1 })]);
    expect(await checkLedger(at(3_599_000))).toBeNull();
    expect(await checkLedger(at(3_600_000))).toHaveLength(1);
  });
});

describe('audit verify', () => {
  const verify = (...args: string[]) =>
    runCli({ databaseUrl: database.url, stripeUrl: 'http://127.0.0.1:9' }, 'audit', 'verify', ...args);

  test('is content with what nobody has touched', async () => {
    expect(await verify()).toMatchObject({
      code: 0,
      out: expect.stringContaining('Checked 2 accounts: 0 faults.'),
    });
  });

  test('names the first broken row of the audit log and of the ledger, and ends with 1', async () => {
    await tamper(`update audit_entry set action = 'forged' where account_id = $1 and position = 2`);
    await tamper('update credit_entry set seconds = -1 where account_id = $1 and position = 3');
    const id = formatId('acc', accountId);
    const { code, out } = await verify();
    expect(code).toBe(1);
    expect(out).toContain(`${id}: the audit log is broken at entry 2: changed, taken out or put in.`);
    expect(out).toContain(
      `${id}: the credit ledger is broken at entry 3; balance 59794, sum of entries 59795`,
    );
    const json = await verify(id, '--json');
    expect(json.code).toBe(1);
    expect(json.out).toContain(`{"account_id":"${id}","what":"audit_log","position":2}`);
  });

  test('knows no account that is not there, and no id that is none', async () => {
    expect(await verify('acc_01890a5d-ac96-774b-bcce-b302099a8057')).toMatchObject({ code: 1 });
    expect(await verify('somebody')).toMatchObject({ code: 2 });
  });
});

test('the clock of the database is told to the millisecond, and never ahead', async () => {
  const { rows } = await db.pool.query<{ is_past: boolean }>(
    'select $1::timestamptz <= clock_timestamp() as is_past',
    [await databaseNow(db, { now: () => new Date(0) })],
  );
  expect(rows).toEqual([{ is_past: true }]);
});
