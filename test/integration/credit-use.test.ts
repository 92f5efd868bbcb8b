import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { createAccount } from '../../server/billing/accounts.ts';
import { readBalance } from '../../server/credit/balance.ts';
import { expireTrialPack } from '../../server/credit/expire.ts';
import { enter, verifyLedger } from '../../server/credit/ledger.ts';
import { reportUse, type Use } from '../../server/credit/report-use.ts';
import { releaseReservation, reserve, settleReservation } from '../../server/credit/reserve.ts';
import { connectDatabase, type Database } from '../../server/database/connection.ts';
import { lockAccount } from '../../server/database/locks.ts';
import { uuidv7 } from '../../server/database/uuid.ts';
import { column, letPass, openPack, tellPack } from '../support/credit.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { untilTrue } from '../support/service.ts';
import { reached } from '../support/states.ts';

const DAY_SECONDS = 86_400;
const clock = { now: () => new Date() };

let database: TestDatabase;
let db: Database;
let accountId: string;
let usedAt: Date;

beforeAll(async () => {
  database = await createTestDatabase();
  db = await connectDatabase({ url: database.url, poolMax: 20, applicationName: 'credit-use-test' });
});

afterAll(async () => {
  await db?.close();
  await database?.drop();
});

beforeEach(async () => {
  accountId = await openPack(db);
  usedAt = new Date();
});

const report = (over: Partial<Use> = {}) =>
  reportUse(
    { db, clock },
    { accountId, reportId: uuidv7(usedAt), sessionId: 's1', seconds: 60, usedAt, ...over },
  );
const hold = (reservationId: string, seconds: number, holdSeconds = 600) =>
  reserve({ db, clock }, { accountId, reservationId, sessionId: 's1', seconds, holdSeconds });
const settle = (reservationId: string, seconds: number) =>
  settleReservation({ db, clock }, { accountId, reservationId, seconds, usedAt });
const release = (reservationId: string) => releaseReservation({ db, clock }, { accountId, reservationId });
const balance = () => readBalance({ db, clock }, accountId);
const mails = () =>
  column<string>(db, 'select template from email where account_id = $1 order by created_at', [accountId]);
const audited = () =>
  column<string>(
    db,
    `select action from audit_entry where account_id = $1 and action like 'trial_pack.credit%' order by position`,
    [accountId],
  );
const written = async () =>
  (
    await column<string>(
      db,
      `select md5(concat((select json_agg(e order by position) from credit_entry e where account_id = $1),
                       (select json_agg(p) from trial_pack p where account_id = $1),
                       (select json_agg(r order by id) from credit_reservation r where account_id = $1),
                       (select count(*) from audit_entry where account_id = $1)))`,
      [accountId],
    )
  )[0];

describe('reporting use', () => {
  test('takes what was used and says what is left', async () => {
    expect(await report({ seconds: 200 })).toEqual({
      acceptedSeconds: 200,
      remainingSeconds: 59_600,
      outcome: 'active',
    });
    expect(await balance()).toMatchObject({
      status: 'active',
      remaining_seconds: 59_600,
      free_seconds: 59_600,
    });
    expect(await verifyLedger(db, accountId)).toEqual([]);
  });

  test('the same report gives the same answer, however things stand by then', async () => {
    const reportId = uuidv7(usedAt);
    const first = await report({ reportId });
    await report({ seconds: 59_740 });
    const before = await written();
    expect(await report({ reportId })).toEqual(first);
    await tellPack(db, accountId, { amountRefundedCents: 299 });
    expect(await report({ reportId })).toEqual(first);
    await letPass(db, accountId, 15 * DAY_SECONDS);
    expect(await report({ reportId })).toEqual(first);
    expect(before).not.toBe(await written());
    expect(await verifyLedger(db, accountId)).toEqual([]);
  });

  test('an answer of nothing is given again as well', async () => {
    await tellPack(db, accountId, { disputeStatuses: ['needs_response'] });
    const reportId = uuidv7(usedAt);
    const refused = { acceptedSeconds: 0, remainingSeconds: 0, outcome: 'suspended' };
    expect(await report({ reportId })).toEqual(refused);
    await tellPack(db, accountId, { disputeStatuses: ['won'] });
    expect(await report({ reportId })).toEqual(refused);
    expect(await report()).toMatchObject({ acceptedSeconds: 60, outcome: 'active' });
  });

  test.each<[string, Partial<Use>]>([
    ['other seconds', { seconds: 61 }],
    ['another session', { sessionId: 's2' }],
    ['another time', { usedAt: new Date(Date.now() - 60_000) }],
  ])('the same id with %s is refused, and nothing is written', async (_what, over) => {
    const reportId = uuidv7(usedAt);
    await report({ reportId });
    const before = await written();
    await expect(report({ reportId, ...over })).rejects.toMatchObject({
      status: 409,
      code: 'report_id_reused',
    });
    expect(await written()).toBe(before);
  });

  // With 10 seconds left each report has consequences, and is a transaction behind locks that exclude nobody else's.
  test.each([30, 10])(
    'the same id for another account with %i seconds is refused, also at once',
    async (left) => {
      accountId = await openPack(db, { balanceSeconds: left });
      const other = await openPack(db, { balanceSeconds: left });
      const reportId = uuidv7(usedAt);
      const outcomes = await Promise.allSettled([
        report({ reportId, seconds: 20 }),
        report({ reportId, seconds: 20, accountId: other }),
        report({ reportId, seconds: 20 }),
        report({ reportId, seconds: 20, accountId: other }),
      ]);
      const refused = outcomes.filter((outcome) => outcome.status === 'rejected');
      expect(refused).toHaveLength(2);
      for (const { reason } of refused) expect(reason).toMatchObject({ code: 'report_id_reused' });
      expect(await verifyLedger(db)).toEqual([]);
    },
  );

  test('accepts the part that is covered, and says that the credit is used up', async () => {
    accountId = await openPack(db, { balanceSeconds: 100 });
    expect(await report({ seconds: 130 })).toEqual({
      acceptedSeconds: 100,
      remainingSeconds: 0,
      outcome: 'used_up',
    });
    expect(await report()).toEqual({ acceptedSeconds: 0, remainingSeconds: 0, outcome: 'used_up' });
    expect(await balance()).toMatchObject({ status: 'used_up', free_seconds: 0 });
  });

  test('of 200 reports of one second at once on a balance of 100, exactly 100 are accepted', async () => {
    accountId = await openPack(db, { balanceSeconds: 100 });
    const answers = await Promise.all(Array.from({ length: 200 }, () => report({ seconds: 1 })));
    expect(answers.filter(({ acceptedSeconds }) => acceptedSeconds === 1)).toHaveLength(100);
    expect(answers.filter(({ acceptedSeconds }) => acceptedSeconds === 0)).toHaveLength(100);
    expect(await balance()).toMatchObject({ remaining_seconds: 0 });
    expect(await verifyLedger(db, accountId)).toEqual([]);
    expect(await mails()).toEqual(['trial_pack_ready', 'credit_nearly_used', 'credit_used_up']);
  });

  test('of 50 times the same report at once, one is entered and all are answered alike', async () => {
    const reportId = uuidv7(usedAt);
    const answers = await Promise.all(Array.from({ length: 50 }, () => report({ reportId })));
    expect(new Set(answers.map((answer) => JSON.stringify(answer))).size).toBe(1);
    expect(await balance()).toMatchObject({ remaining_seconds: 59_740 });
  });

  test('does not wait for whoever has locked the account to read from Stripe', async () => {
    const other = await db.pool.connect();
    try {
      await other.query('begin');
      await other.query('select id from account where id = $1 for update', [accountId]);
      expect(await report()).toMatchObject({ acceptedSeconds: 60 });
      expect(await hold('r-while-locked', 60)).toMatchObject({ reservedSeconds: 60 });
    } finally {
      await other.query('rollback');
      other.release();
    }
  });

  test('credit that comes back while a report waits for its turn is spent from', async () => {
    accountId = await openPack(db, { balanceSeconds: 30 });
    let reporting: Promise<unknown> = Promise.resolve();
    await db.transaction(async (tx) => {
      const entry = {
        accountId,
        kind: 'reinstate',
        seconds: 20_000,
        reportKey: `back-${accountId}`,
      } as const;
      await enter(tx, entry, usedAt);
      reporting = report();
      await untilTrue(async () => {
        const { rowCount } = await db.pool.query(
          `select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`,
        );
        return rowCount === 1;
      });
    });
    expect(await reporting).toEqual({ acceptedSeconds: 60, remainingSeconds: 19_970, outcome: 'active' });
    expect(await verifyLedger(db, accountId)).toEqual([]);
  });

  test('spending ends with the 14 days by the clock of the database, though no job has run', async () => {
    await letPass(db, accountId, 14 * DAY_SECONDS - 3_600 - 30);
    usedAt = new Date();
    expect(await report()).toMatchObject({ outcome: 'active' });
    await letPass(db, accountId, 30);
    expect(await report()).toEqual({ acceptedSeconds: 0, remainingSeconds: 0, outcome: 'expired' });
    expect(await balance()).toMatchObject({ status: 'expired', remaining_seconds: 0, free_seconds: 0 });
  });

  test('credit that ends while a report waits for its turn has ended', async () => {
    await db.pool.query(
      `update trial_pack set expires_at = clock_timestamp() + interval '400 milliseconds' where account_id = $1`,
      [accountId],
    );
    const other = await db.pool.connect();
    try {
      await other.query('begin');
      await other.query('select id from trial_pack where account_id = $1 for update', [accountId]);
      const reporting = report();
      await other.query('select pg_sleep(0.5)');
      await other.query('rollback');
      expect(await reporting).toMatchObject({ acceptedSeconds: 0, outcome: 'expired' });
      reached('a report waits for its turn while the pack ends');
    } finally {
      other.release();
    }
  });

  test.each([
    ['in the future', () => new Date(Date.now() + 120_000), 'must not be in the future'],
    [
      'before the grant',
      () => new Date(Date.now() - 2 * 3_600_000),
      'must not be before the trial pack was paid for',
    ],
  ])('use %s is refused, and nothing is written', async (_when, at, message) => {
    const before = await written();
    const refusal = { status: 400, options: { errors: [{ field: 'used_at', message }] } };
    await expect(report({ usedAt: at() })).rejects.toMatchObject(refusal);
    expect(await written()).toBe(before);
  });

  test('a clock that is a little ahead is forgiven', async () => {
    expect(await report({ usedAt: new Date(Date.now() + 30_000) })).toMatchObject({ acceptedSeconds: 60 });
  });

  test('an unknown account and one without a pack are refused', async () => {
    await expect(report({ accountId: uuidv7(usedAt) })).rejects.toMatchObject({ status: 404 });
    const now = clock.now();
    const { id } = await db.transaction((tx) => createAccount(tx, { email: 'no-pack@example.com', now }));
    await expect(report({ accountId: id })).rejects.toMatchObject({ status: 409, code: 'no_trial_pack' });
    expect(await readBalance({ db, clock }, id)).toMatchObject({
      status: 'none',
      remaining_seconds: 0,
      expires_at: null,
    });
    await expect(readBalance({ db, clock }, uuidv7(now))).rejects.toMatchObject({ status: 404 });
  });

  test('tells of a tenth left and of nothing left, each once, in the audit log and by mail', async () => {
    await report({ seconds: 59_800 - 5_981 });
    expect(await mails()).toEqual(['trial_pack_ready']);
    await report({ seconds: 1 });
    await report({ seconds: 1 });
    expect(await audited()).toEqual(['trial_pack.credit_nearly_used']);
    expect(
      await column(db, `select data from email where account_id = $1 and template = 'credit_nearly_used'`, [
        accountId,
      ]),
    ).toMatchObject([{ creditCents: 30 }]);
    await report({ seconds: 59_800 });
    await report({ seconds: 5 });
    expect(await audited()).toEqual(['trial_pack.credit_nearly_used', 'trial_pack.credit_used_up']);
    expect(await mails()).toEqual(['trial_pack_ready', 'credit_nearly_used', 'credit_used_up']);
  });

  test('whoever spends the last at once is told only that nothing is left', async () => {
    await report({ seconds: 60_000 });
    expect(await audited()).toEqual(['trial_pack.credit_used_up']);
  });
});

describe('reserving', () => {
  test('ten sessions that start at once cannot reserve the same credit', async () => {
    accountId = await openPack(db, { balanceSeconds: 1_000 });
    const held = await Promise.all(Array.from({ length: 10 }, (_, n) => hold(`${accountId}-${n}`, 300)));
    const seconds = held.map(({ reservedSeconds }) => reservedSeconds).sort((a, b) => b - a);
    expect(seconds).toEqual([300, 300, 300, 100, 0, 0, 0, 0, 0, 0]);
    expect(held.filter(({ outcome }) => outcome === 'held')).toHaveLength(6);
    expect(await balance()).toMatchObject({ status: 'held', held_seconds: 1_000, free_seconds: 0 });
    expect(await report()).toMatchObject({ acceptedSeconds: 0, remainingSeconds: 1_000, outcome: 'held' });
    expect(await verifyLedger(db, accountId)).toEqual([]);
  });

  test('what is held can be settled by its session only, and the rest is free again', async () => {
    await hold('r1', 59_800);
    expect(await report()).toMatchObject({ acceptedSeconds: 0, outcome: 'held' });
    expect(await settle('r1', 300)).toEqual({
      acceptedSeconds: 300,
      remainingSeconds: 59_500,
      outcome: 'active',
    });
    expect(await balance()).toMatchObject({
      remaining_seconds: 59_500,
      held_seconds: 0,
      free_seconds: 59_500,
    });
  });

  test('a settlement takes more than was held if that is free, and never what others hold', async () => {
    accountId = await openPack(db, { balanceSeconds: 1_000 });
    await hold('mine', 300);
    await hold('other', 500);
    expect(await settle('mine', 900)).toEqual({
      acceptedSeconds: 500,
      remainingSeconds: 500,
      outcome: 'held',
    });
  });

  test('the same settlement gives the same answer, another one is refused', async () => {
    await hold('r2', 600);
    const first = await settle('r2', 300);
    await report({ seconds: 100 });
    expect(await settle('r2', 300)).toEqual(first);
    await expect(settle('r2', 301)).rejects.toMatchObject({ code: 'report_id_reused' });
    await expect(release('r2')).rejects.toMatchObject({ code: 'reservation_closed' });
    expect(await verifyLedger(db, accountId)).toEqual([]);
  });

  test('a release frees everything, says so again, and closes the reservation', async () => {
    await hold('r3', 600);
    expect(await release('r3')).toBe(600);
    expect(await release('r3')).toBe(600);
    expect(await balance()).toMatchObject({ held_seconds: 0, free_seconds: 59_800 });
    await expect(settle('r3', 10)).rejects.toMatchObject({ code: 'reservation_closed' });
  });

  test('the reservation of a crashed runtime frees itself when its time is over', async () => {
    accountId = await openPack(db, { balanceSeconds: 100 });
    await hold('crashed', 100, 60);
    expect(await report({ seconds: 50 })).toMatchObject({ acceptedSeconds: 0 });
    await letPass(db, accountId, 60);
    expect(await balance()).toMatchObject({ held_seconds: 0, free_seconds: 100 });
    expect(await report({ seconds: 50 })).toMatchObject({ acceptedSeconds: 50, outcome: 'active' });
    expect(await verifyLedger(db, accountId)).toEqual([]);
    expect(await release('crashed')).toBe(0);
    expect(await settle('crashed', 80)).toMatchObject({ acceptedSeconds: 50, outcome: 'used_up' });
  });

  test('the same wish gives the same answer, another one under its id is refused', async () => {
    const first = await hold('r4', 600);
    await report({ seconds: 59_200 });
    expect(await hold('r4', 600)).toEqual(first);
    await expect(hold('r4', 601)).rejects.toMatchObject({ code: 'reservation_id_reused' });
    const other = await openPack(db);
    const wish = { accountId: other, reservationId: 'r4', sessionId: 's1', seconds: 600, holdSeconds: 600 };
    await expect(reserve({ db, clock }, wish)).rejects.toMatchObject({ code: 'reservation_id_reused' });
    await expect(
      releaseReservation({ db, clock }, { accountId: other, reservationId: 'r4' }),
    ).rejects.toMatchObject({ status: 404 });
  });

  test('of one id for two accounts at once, one is refused', async () => {
    const other = await openPack(db);
    const wish = { reservationId: 'both', sessionId: 's1', seconds: 60, holdSeconds: 60 };
    const outcomes = await Promise.allSettled(
      [accountId, other].map((id) => reserve({ db, clock }, { ...wish, accountId: id })),
    );
    expect(outcomes.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
    expect(await verifyLedger(db)).toEqual([]);
  });

  test('no reservation outlives the pack', async () => {
    await letPass(db, accountId, 14 * DAY_SECONDS - 3_600 - 100);
    const { expiresAt } = await hold('late', 60, 3_600);
    expect((await balance()).expires_at).toBe(`${expiresAt?.toISOString().slice(0, 19)}Z`);
  });

  test('nothing can be reserved of a pack that is on hold, and nothing is settled of one taken back', async () => {
    await hold('r5', 600);
    await tellPack(db, accountId, { disputeStatuses: ['needs_response'] });
    expect(await hold('r6', 60)).toEqual({ reservedSeconds: 0, expiresAt: null, outcome: 'suspended' });
    await tellPack(db, accountId, { amountRefundedCents: 299 });
    usedAt = new Date();
    expect(await settle('r5', 300)).toEqual({ acceptedSeconds: 0, remainingSeconds: 0, outcome: 'revoked' });
    expect(await verifyLedger(db, accountId)).toEqual([]);
  });

  test('where a refund leaves less than is held, whoever settles first gets it', async () => {
    await hold('first', 40_000);
    await hold('second', 19_800);
    await tellPack(db, accountId, { amountRefundedCents: 199 });
    expect(await settle('first', 30_000)).toMatchObject({ acceptedSeconds: 20_000, outcome: 'used_up' });
    expect(await settle('second', 5)).toMatchObject({ acceptedSeconds: 0 });
    expect(await verifyLedger(db, accountId)).toEqual([]);
  });
});

test('the end of a pack takes what its reservations held', async () => {
  await hold('r7', 600, 86_400);
  await letPass(db, accountId, 15 * DAY_SECONDS);
  expect(await expireTrialPack({ db, clock }, accountId)).toBe('expired');
  expect(await release('r7')).toBe(0);
  expect(await balance()).toMatchObject({ status: 'expired', remaining_seconds: 0, held_seconds: 0 });
  expect(await verifyLedger(db, accountId)).toEqual([]);
});

test('reservations never wait for who holds the account, so that the two cannot wait for each other', async () => {
  await hold('waits-1', 10);
  const locked = Promise.withResolvers<void>();
  const done = Promise.withResolvers<void>();
  const holding = db.transaction(async (tx) => {
    await lockAccount(tx, accountId);
    locked.resolve();
    await done.promise;
  });
  await locked.promise;
  try {
    // With something held already, reserving and releasing change the pack twice.
    await hold('waits-2', 10);
    expect(await release('waits-1')).toBe(10);
  } finally {
    done.resolve();
    await holding;
  }
  expect(await balance()).toMatchObject({ held_seconds: 10 });
});

describe('where the clock was moved ahead, as beside a local Stripe', () => {
  const moved = (days: number) => {
    const aheadMs = days * DAY_SECONDS * 1_000;
    return { now: () => new Date(Date.now() + aheadMs), aheadMs: () => aheadMs };
  };
  const use = (id: string, later: ReturnType<typeof moved>): Use => {
    return { accountId, reportId: id, sessionId: 's1', seconds: 60, usedAt: later.now() };
  };

  test('credit is spent at that time, and neither before nor long after', async () => {
    const later = moved(3);
    const id = uuidv7(usedAt);
    expect(await reportUse({ db, clock: later }, use(id, later))).toMatchObject({ acceptedSeconds: 60 });
    const [entered] = await column<number>(
      db,
      `select extract(epoch from created_at - now())::float8 from credit_entry
        where account_id = $1 and kind = 'use'`,
      [accountId],
    );
    expect(Math.abs(Number(entered) - 3 * DAY_SECONDS)).toBeLessThan(60);
    await expect(reportUse({ db, clock: later }, use(uuidv7(usedAt), moved(4)))).rejects.toMatchObject({
      status: 400,
    });
  });

  test('a pack ends then, for those who spend, reserve and read', async () => {
    const later = moved(14);
    const deps = { db, clock: later };
    const id = uuidv7(usedAt);
    expect(await reportUse(deps, use(id, later))).toMatchObject({ acceptedSeconds: 0, outcome: 'expired' });
    const wish = { accountId, reservationId: `${id}-r`, sessionId: 's1', seconds: 60, holdSeconds: 60 };
    expect(await reserve(deps, wish)).toMatchObject({ reservedSeconds: 0, outcome: 'expired' });
    expect(await readBalance(deps, accountId)).toMatchObject({ status: 'expired', free_seconds: 0 });
    expect(await balance()).toMatchObject({ status: 'active' });
  });

  test('a reservation frees itself then', async () => {
    await hold('moved-1', 59_000, 600);
    const deps = { db, clock: moved(1) };
    expect(await readBalance(deps, accountId)).toMatchObject({ held_seconds: 0, free_seconds: 59_800 });
    const wish = { accountId, reservationId: 'moved-2', sessionId: 's1', seconds: 59_800, holdSeconds: 60 };
    expect(await reserve(deps, wish)).toMatchObject({ reservedSeconds: 59_800 });
    expect(await verifyLedger(db, accountId)).toEqual([]);
  });
});
