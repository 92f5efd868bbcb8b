import { setTimeout as delay } from 'node:timers/promises';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { readBalance } from '../../server/credit/balance.ts';
import { expireTrialPack } from '../../server/credit/expire.ts';
import { verifyLedger } from '../../server/credit/ledger.ts';
import { reportUse } from '../../server/credit/report-use.ts';
import { releaseReservation, reserve, settleReservation } from '../../server/credit/reserve.ts';
import { connectDatabase, type Database } from '../../server/database/connection.ts';
import { isDatabaseUnavailable } from '../../server/database/unavailable.ts';
import { ProblemError } from '../../shared/errors.ts';
import { column, letPass, openPack, tellPack } from '../support/credit.ts';
import { CreditModel } from '../support/credit-model.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { shrinkingFor } from '../support/shrinking.ts';
import { reached } from '../support/states.ts';

const DAY_SECONDS = 86_400;
/** `openPack` opens packs that were paid for an hour ago. */
const ENDS_AT = 14 * DAY_SECONDS - 3_600;
const clock = { now: () => new Date() };
/** A deep run plays more, as it does of stories. */
const PROGRAMS = Math.max(30, Math.ceil(Number(process.env['CASES'] ?? 1_000) / 40));
const TIMEOUT_MS = 60_000 + PROGRAMS * 2_000;

let database: TestDatabase;
let db: Database;

beforeAll(async () => {
  database = await createTestDatabase();
  db = await connectDatabase({ url: database.url, poolMax: 12, applicationName: 'credit-model' });
});

afterAll(async () => {
  await db?.close();
  await database?.drop();
});

const seconds = fc.oneof(fc.integer({ min: 1, max: 600 }), fc.integer({ min: 1, max: 40_000 }));
const id = fc.integer({ min: 0, max: 3 });
const told = fc.record({
  amountRefundedCents: fc.constantFrom(0, 0, 1, 100, 298, 299),
  disputeStatuses: fc.constantFrom<string[]>([], [], ['needs_response'], ['won'], ['lost']),
});
const command = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant('report' as const), seconds }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('report_again' as const), back: id }) },
  // Never near a moment at which a reservation or a pack ends, because the tests take time themselves.
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('reserve' as const),
      id,
      seconds,
      hold: fc.constantFrom(1_000, 3_000),
    }),
  },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('settle' as const), id, seconds }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('release' as const), id }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('tell' as const), told }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('pass' as const),
      seconds: fc.constantFrom<number>(700, 700, 1_700, 5 * DAY_SECONDS),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('expire' as const) }) },
);
type Command = typeof command extends fc.Arbitrary<infer T> ? T : never;

/** What takes several steps, and would hardly ever be drawn one by one. */
const arc = fc
  .record({ id, seconds, told, hold: fc.constantFrom(1_000, 3_000) })
  .chain(({ id, seconds, told, hold }) => {
    const reserve: Command = { do: 'reserve', id, seconds, hold };
    const settle: Command = { do: 'settle', id, seconds };
    const release: Command = { do: 'release', id };
    const pass = (passed: number): Command => ({ do: 'pass', seconds: passed });
    return fc.constantFrom<Command[]>(
      [reserve, settle, settle],
      [
        { ...reserve, seconds: 60 },
        { ...settle, seconds: 600 },
      ],
      [
        { do: 'report', seconds: 60_000 },
        { do: 'report', seconds },
      ],
      [reserve, settle, { ...settle, seconds: seconds + 1 }],
      [reserve, release, release],
      [reserve, release, settle],
      [reserve, pass(1_700), pass(1_700), settle],
      [reserve, pass(1_700), pass(1_700), release],
      [reserve, { do: 'tell', told }, settle],
      [reserve, { do: 'report', seconds: 60_000 }, { do: 'report', seconds }],
      [reserve, pass(15 * DAY_SECONDS), { do: 'expire' }, settle],
      [pass(15 * DAY_SECONDS), { do: 'report', seconds }, { do: 'report_again', back: 0 }],
      [
        { do: 'report', seconds },
        { do: 'tell', told },
        { do: 'report_again', back: 0 },
      ],
      [
        { do: 'report', seconds },
        { do: 'tell', told: { amountRefundedCents: 298, disputeStatuses: [] } },
        { do: 'report', seconds },
        { do: 'tell', told: { amountRefundedCents: 0, disputeStatuses: [] } },
      ],
    );
  });
const program = fc
  .array(fc.oneof({ weight: 5, arbitrary: command.map((one) => [one]) }, { weight: 1, arbitrary: arc }), {
    minLength: 4,
    maxLength: 20,
  })
  .map((parts) => parts.flat());

/** What a call answered, or the code of its refusal. */
async function said<T>(calling: Promise<T>, words: (answer: T) => string): Promise<string> {
  try {
    return words(await calling);
  } catch (error) {
    if (error instanceof ProblemError && error.status < 500) return error.code;
    throw error;
  }
}

type Calls = ReturnType<typeof callsFor>;

function callsFor(accountId: string) {
  const used = (answer: Awaited<ReturnType<typeof reportUse>>) =>
    `${answer.acceptedSeconds} ${answer.remainingSeconds} ${answer.outcome}`;
  const usedAt = clock.now();
  const deps = { db, clock };
  const nameOf = (n: number) => `${accountId}-${n}`;
  return {
    report: (n: number, taken: number) =>
      said(reportUse(deps, { accountId, reportId: nameOf(n), sessionId: 's', seconds: taken, usedAt }), used),
    reserve: (n: number, wanted: number, holdSeconds: number) =>
      said(
        reserve(deps, { accountId, reservationId: nameOf(n), sessionId: 's', seconds: wanted, holdSeconds }),
        ({ reservedSeconds, outcome }) => `${reservedSeconds} ${outcome}`,
      ),
    settle: (n: number, taken: number) =>
      said(settleReservation(deps, { accountId, reservationId: nameOf(n), seconds: taken, usedAt }), used),
    release: (n: number) => said(releaseReservation(deps, { accountId, reservationId: nameOf(n) }), String),
  };
}

const entriesOf = (accountId: string) =>
  column<string>(
    db,
    'select row_to_json(e)::text from credit_entry e where account_id = $1 order by position',
    [accountId],
  );

test(
  'any program of grants, reports, reservations, refunds, disputes and ends goes as the model says',
  async () => {
    await fc.assert(
      fc.asyncProperty(
        program,
        shrinkingFor(30_000, async (program) => {
          const accountId = await openPack(db);
          const calls = callsFor(accountId);
          const model = new CreditModel(ENDS_AT);
          const reports: { seconds: number; answer: string }[] = [];
          const reserved = new Map<number, string>();
          let before = await entriesOf(accountId);
          for (const step of program) {
            switch (step.do) {
              case 'report': {
                const answer = model.report(step.seconds);
                expect(await calls.report(reports.length, step.seconds)).toBe(answer);
                reports.push({ seconds: step.seconds, answer });
                break;
              }
              case 'report_again': {
                const n = reports.length - 1 - step.back;
                const earlier = reports[n];
                if (!earlier) break;
                reached('a report comes a second time');
                reached(
                  'a report comes a second time when its pack is gone',
                  !/^active|^held|^used_up/.test(model.standing),
                );
                expect(await calls.report(n, earlier.seconds)).toBe(earlier.answer);
                expect(await calls.report(n, earlier.seconds + 1)).toBe('report_id_reused');
                break;
              }
              case 'reserve': {
                const content = `${step.seconds} ${step.hold}`;
                const earlier = reserved.get(step.id);
                if (earlier === undefined) {
                  reserved.set(step.id, content);
                  const answer = model.reserve(step.id, step.seconds, step.hold);
                  expect(await calls.reserve(step.id, step.seconds, step.hold)).toBe(answer);
                  expect(await calls.reserve(step.id, step.seconds, step.hold)).toBe(answer);
                } else if (earlier !== content) {
                  expect(await calls.reserve(step.id, step.seconds, step.hold)).toBe('reservation_id_reused');
                }
                break;
              }
              case 'settle':
                expect(await calls.settle(step.id, step.seconds)).toBe(model.settle(step.id, step.seconds));
                break;
              case 'release':
                expect(await calls.release(step.id)).toBe(model.release(step.id));
                break;
              case 'tell':
                model.tell(step.told);
                await tellPack(db, accountId, step.told);
                break;
              case 'pass':
                model.pass(step.seconds);
                await letPass(db, accountId, step.seconds);
                break;
              case 'expire':
                model.expire();
                await expireTrialPack({ db, clock }, accountId);
                break;
            }
            const { status, remaining_seconds, held_seconds } = await readBalance({ db, clock }, accountId);
            expect(`${status} ${remaining_seconds} ${held_seconds}`).toBe(model.standing);
            expect(await verifyLedger(db, accountId)).toEqual([]);
            const after = await entriesOf(accountId);
            expect(after.slice(0, before.length)).toEqual(before);
            before = after;
          }
          const [balance] = await column<number>(
            db,
            'select remaining_seconds from trial_pack where account_id = $1',
            [accountId],
          );
          expect(balance).toBe(model.balance);
        }),
      ),
      { numRuns: PROGRAMS },
    );
  },
  TIMEOUT_MS,
);

/** So many that most calls lose a connection, and few enough that the last ones come through. */
const KILLS_PER_CASE = 60;

/** Ends connections of this test's pool at random, at any point of whatever they are doing. */
async function crashing(until: Promise<unknown>): Promise<number> {
  const killer = await connectDatabase({ url: database.url, poolMax: 1, applicationName: 'killer' });
  let isOver = false;
  const over = () => {
    isOver = true;
  };
  void until.then(over, over);
  let killed = 0;
  try {
    while (!isOver && killed < KILLS_PER_CASE) {
      const { rowCount } = await killer.pool.query(
        `select pg_terminate_backend(pid) from pg_stat_activity
          where application_name = 'credit-model' and datname = current_database() and state <> 'idle'
          order by random() limit 1`,
      );
      killed += rowCount ?? 0;
      await delay(3);
    }
  } finally {
    await killer.close();
  }
  return killed;
}

/** As a caller does: again with the same ids, until there is an answer. */
async function insist(call: () => Promise<string>): Promise<string> {
  for (;;) {
    try {
      return await call();
    } catch (error) {
      // A deadlock would pass for a lost connection, and here it is a defect.
      const isDeadlock = error instanceof Error && 'code' in error && error.code === '40P01';
      // Whoever waited too long behind a connection that was killed is told to come back.
      const isBusy = error instanceof ProblemError && error.status === 503;
      if (isDeadlock || !(isBusy || isDatabaseUnavailable(error))) throw error;
      reached('a connection is killed under a report or a reservation', !isBusy);
      await delay(1);
    }
  }
}

const parallel = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({ do: fc.constant('report' as const), seconds: fc.integer({ min: 1, max: 90 }) }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('reserve' as const), id, seconds: fc.constant(200) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('settle' as const), id, seconds: fc.constant(150) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('release' as const), id }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('tell' as const), told }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('expire' as const) }) },
);

type Step = typeof parallel extends fc.Arbitrary<infer T> ? T : never;

function carryOut(calls: Calls, accountId: string, step: Step, n: number) {
  switch (step.do) {
    case 'report':
      return calls.report(n, step.seconds);
    case 'reserve':
      return calls.reserve(step.id, step.seconds, 1_000);
    case 'settle':
      return calls.settle(step.id, step.seconds);
    case 'release':
      return calls.release(step.id);
    case 'tell':
      return tellPack(db, accountId, step.told).then(() => '');
    case 'expire':
      return expireTrialPack({ db, clock }, accountId);
  }
}

test(
  'in parallel, and while connections are killed, nothing is spent twice, lost or changed',
  async () => {
    let killed = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.array(parallel, { minLength: 25, maxLength: 50 }),
        shrinkingFor(30_000, async (steps) => {
          const accountId = await openPack(db, { balanceSeconds: 1_500 });
          const calls = callsFor(accountId);
          const before = await entriesOf(accountId);
          const all = Promise.all(
            steps.map(async (step, n) => ({
              step,
              n,
              answer: await insist(() => carryOut(calls, accountId, step, n)),
            })),
          );
          killed += await crashing(all);
          const done = await all;

          expect(await verifyLedger(db, accountId)).toEqual([]);
          const after = await entriesOf(accountId);
          expect(after.slice(0, before.length)).toEqual(before);
          const accepted = new Map<string, number>();
          for (const { step, n, answer } of done) {
            if (step.do === 'report') accepted.set(`report ${n}`, Number.parseInt(answer, 10));
            if (step.do === 'settle' && /^\d/.test(answer))
              accepted.set(`settle ${step.id}`, Number.parseInt(answer, 10));
          }
          const [spent] = await column<number>(
            db,
            `select -sum(seconds)::int from credit_entry where account_id = $1 and kind = 'use'`,
            [accountId],
          );
          const told = [...accepted.values()].reduce((sum, one) => sum + one, 0);
          expect(spent).toBe(58_300 + told);
          expect(told).toBeLessThanOrEqual(1_500);
          // Every answer is given again, so none of them was lost with a connection.
          for (const { step, n, answer } of done) {
            if (step.do === 'report') expect(await calls.report(n, step.seconds)).toBe(answer);
          }
        }),
      ),
      { numRuns: Math.max(6, PROGRAMS / 20) },
    );
    expect(killed).toBeGreaterThan(0);
  },
  TIMEOUT_MS,
);
