import fc from 'fast-check';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { createAccount } from '../../server/billing/accounts.ts';
import { applyTrialPack } from '../../server/credit/apply.ts';
import { expireTrialPack, startExpiry } from '../../server/credit/expire.ts';
import { enter, verifyLedger } from '../../server/credit/ledger.ts';
import { GRANTED_SECONDS, type TrialPackFacts } from '../../server/credit/project.ts';
import { expiryOf } from '../../server/credit/rules.ts';
import { connectDatabase, type Database } from '../../server/database/connection.ts';
import { TrialPack } from '../../server/database/entities/billing.ts';
import { lockAccount } from '../../server/database/locks.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { untilTrue } from '../support/service.ts';
import { shrinkingFor } from '../support/shrinking.ts';

const DAY_MS = 86_400_000;
const paidAt = new Date('2026-05-01T12:00:00Z');
const expiresAt = expiryOf(paidAt);
const start = new Date('2026-05-01T12:00:10Z');

let database: TestDatabase;
let db: Database;
let accountId: string;
let accounts = 0;

beforeAll(async () => {
  database = await createTestDatabase();
  db = await connectDatabase({ url: database.url, poolMax: 8, applicationName: 'credit-test' });
});

afterAll(async () => {
  await db?.close();
  await database?.drop();
});

beforeEach(async () => {
  accountId = await newAccount();
});

async function newAccount(): Promise<string> {
  accounts += 1;
  const email = `credit-${accounts}@example.com`;
  return (await db.transaction((tx) => createAccount(tx, { email, now: start }))).id;
}

function facts(over: Partial<TrialPackFacts> = {}): TrialPackFacts {
  return {
    sessionId: `cs_${accountId}`,
    paymentIntentId: `pi_${accountId}`,
    paid: true,
    paidAt,
    amountCents: 299,
    amountRefundedCents: 0,
    currency: 'usd',
    disputeStatuses: [],
    ...over,
  };
}

/** As everybody does who changes an account: its row locked first. */
const apply = (over: Partial<TrialPackFacts> = {}, now = start) =>
  db.transaction(async (tx) => {
    await lockAccount(tx, accountId);
    const cause = { stripe_event_id: 'evt_1' };
    return await applyTrialPack(tx, { accountId, facts: facts(over), cause }, now);
  });

const expire = (now: Date) => expireTrialPack({ db, clock: { now: () => now } }, accountId);

/** Use as it stands in the ledger; how it is reported is tested elsewhere. */
const use = (seconds: number, reportKey: string) =>
  db.transaction(async (tx) => {
    await lockAccount(tx, accountId);
    const pack = await tx.findOneOrFail(TrialPack, { accountId });
    const accepted = pack.state === 'active' ? Math.min(seconds, pack.remainingSeconds) : 0;
    if (accepted === 0) return 0;
    const report = { sessionId: 's1', requestedSeconds: seconds, usedAt: start, outcome: 'active' } as const;
    const entry = { accountId, kind: 'use' as const, seconds: -accepted, ...report };
    await enter(tx, { ...entry, reportKey: `${accountId}:${reportKey}` }, start);
    return accepted;
  });

async function column<T>(statement: string, values: unknown[] = [accountId]): Promise<T[]> {
  const { rows } = await db.pool.query<{ value: T }>(statement, values);
  return rows.map((row) => row.value);
}

const pack = async () => await db.orm.em.fork().findOne(TrialPack, { accountId });
const entries = () =>
  column<string>(
    `select kind || ' ' || seconds as value from credit_entry where account_id = $1 order by created_at, seconds desc`,
  );
const mails = () =>
  column<string>('select template as value from email where account_id = $1 order by natural_key');
const mailData = (template: string) =>
  column<unknown>('select data as value from email where account_id = $1 and template = $2', [
    accountId,
    template,
  ]);
const audited = () =>
  column<string>(
    `select action as value from audit_entry where account_id = $1 and action like 'trial_pack.%' order by position`,
  );
const due = async () => (await pack())?.dueAt?.toISOString() ?? null;

test('a paid pack is granted: row, ledger, audit log, mail and the moment to look after its end', async () => {
  expect(await apply()).toBe('granted');
  expect(await pack()).toMatchObject({
    state: 'active',
    redeemedAt: paidAt,
    expiresAt,
    grantedSeconds: 59_800,
    remainingSeconds: 59_800,
    version: 1,
  });
  expect(await entries()).toEqual(['grant 59800']);
  expect(await audited()).toEqual(['trial_pack.redeemed']);
  expect(await mails()).toEqual(['trial_pack_ready']);
  expect(await mailData('trial_pack_ready')).toEqual([
    { creditCents: 299, expiresAt: expiresAt.toISOString(), amountCents: 299, currency: 'usd' },
  ]);
  expect(await due()).toBe('2026-05-14T12:00:00.000Z');
});

test('the audit entry carries what led to it', async () => {
  await apply();
  const payloads = await column<object>(
    "select payload as value from audit_entry where account_id = $1 and action = 'trial_pack.redeemed'",
  );
  expect(payloads).toEqual([
    {
      amount_cents: 299,
      credit_cents: 299,
      expires_at: '2026-05-15T12:00:00Z',
      stripe_event_id: 'evt_1',
    },
  ]);
});

test('an unpaid session grants nothing', async () => {
  expect(await apply({ paid: false })).toBe('unpaid');
  expect(await pack()).toBeNull();
});

test('the same facts again change nothing', async () => {
  await apply();
  expect(await apply()).toBe('unchanged');
  expect(await entries()).toEqual(['grant 59800']);
  expect(await mails()).toEqual(['trial_pack_ready']);
});

test('of many who bring the same facts at once, one grants', async () => {
  const outcomes = await Promise.all(Array.from({ length: 10 }, () => apply()));
  expect(outcomes.filter((outcome) => outcome === 'granted')).toHaveLength(1);
  expect(await entries()).toEqual(['grant 59800']);
  expect(await mails()).toEqual(['trial_pack_ready']);
});

test('the end is fixed by the first reading of when the money came', async () => {
  await apply();
  await apply({ paidAt: new Date(paidAt.getTime() + DAY_MS) });
  expect((await pack())?.expiresAt).toEqual(expiresAt);
});

test('a second purchase is recognised and changes nothing, also after a refund of the first', async () => {
  await apply();
  const second = { sessionId: 'cs_second', paymentIntentId: 'pi_second' };
  expect(await apply(second)).toBe('second_purchase');
  await apply({ amountRefundedCents: 299 });
  expect(await apply(second)).toBe('second_purchase');
  expect(await apply({ ...second, amountRefundedCents: 299 })).toBe('second_purchase_refunded');
  expect(await pack()).toMatchObject({ stripeSessionId: `cs_${accountId}`, state: 'revoked' });
});

test('one purchase that Stripe tells of by another name is no second one', async () => {
  await apply();
  expect(await apply({ sessionId: 'in_of_the_session' })).toBe('unchanged');
  expect(await apply({ sessionId: 'in_of_the_session', amountRefundedCents: 299 })).toBe('changed');
  expect(await pack()).toMatchObject({ stripeSessionId: `cs_${accountId}`, state: 'revoked' });
});

test('the database itself refuses a second pack of an account', async () => {
  await apply();
  const again = db.pool.query(
    `insert into trial_pack (id, account_id, stripe_session_id, payment_intent, state, redeemed_at, expires_at,
                             granted_seconds, remaining_seconds, version)
     select gen_random_uuid(), account_id, 'cs_x', 'pi_x', state, redeemed_at, expires_at, 1, 1, 1
       from trial_pack where account_id = $1`,
    [accountId],
  );
  await expect(again).rejects.toThrow('duplicate key');
});

test('a refund that is known before the grant lands in revoked, and no mail promises credit', async () => {
  expect(await apply({ amountRefundedCents: 299 })).toBe('granted');
  expect(await pack()).toMatchObject({ state: 'revoked', remainingSeconds: 0, grantedSeconds: 59_800 });
  expect(await entries()).toEqual(['grant 59800', 'revoke -59800']);
  expect(await audited()).toEqual(['trial_pack.redeemed', 'trial_pack.revoked']);
  expect(await mails()).toEqual(['trial_pack_refunded']);
});

test('a refund takes what is left and says how much went back', async () => {
  await apply();
  await use(800, 'r1');
  expect(await apply({ amountRefundedCents: 299 })).toBe('changed');
  expect(await entries()).toEqual(['grant 59800', 'use -800', 'revoke -59000']);
  expect(
    await column(
      "select payload as value from audit_entry where account_id = $1 and action = 'trial_pack.revoked'",
    ),
  ).toMatchObject([{ amount_refunded_cents: 299, spent_seconds: 800, credit_cents_before: 295 }]);
  expect(await mailData('trial_pack_refunded')).toEqual([
    { refundedCents: 299, currency: 'usd', creditCents: 0 },
  ]);
});

test('a partial refund takes its part, and no more than what is left', async () => {
  await apply();
  await apply({ amountRefundedCents: 100 });
  expect(await pack()).toMatchObject({ state: 'active', remainingSeconds: 199 * 200 });
  await use(199 * 200 - 50, 'r1');
  await apply({ amountRefundedCents: 200 });
  expect(await pack()).toMatchObject({ state: 'active', remainingSeconds: 0 });
  expect(await mails()).toEqual(['trial_pack_ready', 'trial_pack_refunded', 'trial_pack_refunded']);
});

test('a refund that failed gives the credit back, and the moment of its end', async () => {
  await apply();
  await apply({ amountRefundedCents: 299 });
  await apply();
  expect(await pack()).toMatchObject({ state: 'active', remainingSeconds: 59_800 });
  expect(await entries()).toEqual(['grant 59800', 'reinstate 59800', 'revoke -59800']);
  expect(await due()).toBe('2026-05-14T12:00:00.000Z');
});

test('a dispute holds the credit, winning it gives it back with its original end, losing it takes it', async () => {
  await apply();
  await apply({ disputeStatuses: ['needs_response'] });
  expect(await pack()).toMatchObject({ state: 'suspended', remainingSeconds: 59_800 });
  await apply({ disputeStatuses: ['won'] }, new Date(start.getTime() + 5 * DAY_MS));
  expect(await pack()).toMatchObject({ state: 'active', expiresAt, remainingSeconds: 59_800 });
  await apply({ disputeStatuses: ['won', 'lost'] });
  expect(await pack()).toMatchObject({ state: 'revoked', remainingSeconds: 0 });
  expect(await audited()).toEqual([
    'trial_pack.redeemed',
    'trial_pack.suspended',
    'trial_pack.reinstated',
    'trial_pack.revoked',
  ]);
  expect(await mails()).toEqual([
    'trial_pack_ready',
    'trial_pack_suspended',
    'trial_pack_reinstated',
    'trial_pack_refunded',
  ]);
  expect(await mailData('trial_pack_refunded')).toMatchObject([{ refundedCents: null }]);
});

test('a dispute that is won after the end finds the pack expired', async () => {
  await apply();
  await apply({ disputeStatuses: ['under_review'] });
  await apply({ disputeStatuses: ['won'] }, expiresAt);
  expect(await pack()).toMatchObject({ state: 'expired', remainingSeconds: 0 });
});

test('who looks after the end tells of unspent credit a day before, once, and closes the ledger at the end, once', async () => {
  await apply();
  const noticeAt = new Date(expiresAt.getTime() - DAY_MS);
  expect(await expire(noticeAt)).toBe('noticed');
  expect(await expire(noticeAt)).toBe('waiting');
  expect(await mailData('credit_expiring')).toEqual([
    { creditCents: 299, expiresAt: expiresAt.toISOString() },
  ]);
  expect(await due()).toBe('2026-05-15T12:00:00.000Z');
  expect(await expire(expiresAt)).toBe('expired');
  expect(await due()).toBeNull();
  expect(await expire(expiresAt)).toBe('nothing_to_do');
  expect(await entries()).toEqual(['grant 59800', 'expire -59800']);
  expect(await audited()).toEqual([
    'trial_pack.redeemed',
    'trial_pack.credit_expiring',
    'trial_pack.expired',
  ]);
  expect(await mailData('trial_pack_expired')).toEqual([
    { unspentCents: 299, expiredAt: expiresAt.toISOString() },
  ]);
});

test('who looks after the end waits for whoever is changing the account, and closes what they leave', async () => {
  await apply();
  const other = await db.pool.connect();
  try {
    await other.query('begin');
    await other.query('select id from account where id = $1 for no key update', [accountId]);
    const expiring = expire(expiresAt);
    await untilSomebodyWaits();
    await other.query(
      `insert into credit_entry (id, account_id, position, kind, seconds, balance_seconds, report_key, session_id,
                                 requested_seconds, used_at, outcome, created_at)
       values (gen_random_uuid(), $1, 2, 'use', -800, 59000, 'meanwhile', 's1', 800, $2, 'active', $2)`,
      [accountId, start],
    );
    await other.query(
      'update trial_pack set remaining_seconds = 59000, entry_count = 2 where account_id = $1',
      [accountId],
    );
    await other.query('commit');
    expect(await expiring).toBe('expired');
  } finally {
    other.release();
  }
  expect(await entries()).toEqual(['grant 59800', 'use -800', 'expire -59000']);
});

async function untilSomebodyWaits(): Promise<void> {
  const deadline = performance.now() + 10_000;
  for (;;) {
    const { rowCount } = await db.pool.query(
      `select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`,
    );
    if (rowCount === 1) return;
    if (performance.now() > deadline) throw new Error('Nobody waits for the account');
  }
}

test('whoever looks early waits for its time instead of chasing himself', async () => {
  await apply();
  expect(await expire(new Date(expiresAt.getTime() - DAY_MS - 5))).toBe('waiting');
  expect(await due()).toBe('2026-05-14T12:00:59.995Z');
  expect(await mails()).toEqual(['trial_pack_ready']);
});

test('whoever has spent everything hears neither of an end to come nor of one that came', async () => {
  await apply();
  await use(59_800, 'all');
  expect(await expire(new Date(expiresAt.getTime() - DAY_MS))).toBe('waiting');
  expect(await expire(expiresAt)).toBe('expired');
  expect(await mails()).toEqual(['trial_pack_ready']);
  expect(await entries()).toEqual(['grant 59800', 'use -59800']);
});

test('who looks after the end has nothing to do for an account without a pack or one whose pack was taken back', async () => {
  expect(await expire(expiresAt)).toBe('nothing_to_do');
  await apply({ amountRefundedCents: 299 });
  expect(await expire(expiresAt)).toBe('nothing_to_do');
});

test('a ledger that does not add up is found', async () => {
  await apply();
  expect(await verifyLedger(db)).toEqual([]);
  await db.pool.query(
    'update trial_pack set remaining_seconds = remaining_seconds - 1 where account_id = $1',
    [accountId],
  );
  expect(await verifyLedger(db)).toEqual([
    { accountId, position: null, balance: 59_799, sumOfEntries: 59_800, held: 0, sumOfReservations: 0 },
  ]);
  await db.pool.query(
    'update trial_pack set remaining_seconds = remaining_seconds + 1 where account_id = $1',
    [accountId],
  );
});

const reading = fc.record({
  amountRefundedCents: fc.constantFrom(0, 0, 1, 100, 298, 299),
  disputeStatuses: fc.constantFrom<string[]>([], [], ['needs_response'], ['won'], ['won', 'lost'], ['lost']),
});
const step = fc.oneof(
  fc.record({ kind: fc.constant('read' as const), reading }),
  fc.record({ kind: fc.constant('use' as const), seconds: fc.integer({ min: 1, max: 30_000 }) }),
  fc.record({ kind: fc.constant('expire' as const) }),
);

test('whatever was read before, the last reading decides, and the ledger adds up at every step', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(step, { maxLength: 8 }),
      reading,
      fc.boolean(),
      shrinkingFor(10_000, async (steps, last, isLate) => {
        accountId = await newAccount();
        await apply();
        let spent = 0;
        for (const [index, one] of steps.entries()) {
          if (one.kind === 'read') await apply(one.reading);
          else if (one.kind === 'use') spent += await use(one.seconds, String(index));
          else await expire(start);
          expect(await verifyLedger(db)).toEqual([]);
        }
        const now = isLate ? expiresAt : start;
        await apply(last, now);
        const isRevoked = last.amountRefundedCents === 299 || last.disputeStatuses.includes('lost');
        const isHeld = last.disputeStatuses.includes('needs_response');
        const state = isRevoked ? 'revoked' : isLate ? 'expired' : isHeld ? 'suspended' : 'active';
        const allowed = isRevoked || isLate ? 0 : GRANTED_SECONDS - last.amountRefundedCents * 200;
        const remainingSeconds = Math.max(0, allowed - (allowed === 0 ? 0 : spent));
        expect(await pack()).toMatchObject({ state, remainingSeconds });
        expect(await verifyLedger(db)).toEqual([]);
      }),
    ),
    { numRuns: 60 },
  );
});

test('a pack that is due is looked after by itself', async () => {
  await apply();
  const log = { info: () => undefined, warn: () => undefined, error: () => undefined };
  // Moved once, as clocks are: a second after the end by now, and later on later.
  const aheadMs = expiresAt.getTime() + 1_000 - Date.now();
  const clock = { now: () => new Date(Date.now() + aheadMs), aheadMs: () => aheadMs };
  const crew = startExpiry({ db, clock, log });
  try {
    crew.wake();
    await untilTrue(async () => (await pack())?.state === 'expired');
    expect(await due()).toBeNull();
  } finally {
    await crew.close();
  }
});
