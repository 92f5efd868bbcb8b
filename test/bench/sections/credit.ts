import { reportUse } from '../../../server/credit/report-use.ts';
import { connectDatabase, type Database } from '../../../server/database/connection.ts';
import { uuidv7 } from '../../../server/database/uuid.ts';
import { seedAccounts, withClient } from '../database.ts';
import type { Bench, Report } from '../section.ts';
import { sized } from '../settings.ts';
import { median, percentile } from '../statistics.ts';
import { figure } from '../table.ts';

const WAYS = ['bare update', 'report', 'refused report'] as const;
type Way = (typeof WAYS)[number];

const ACCOUNTS = sized(10_000, 500);
const SPREADS = [1, ACCOUNTS] as const;
const CONNECTIONS = 20;
const ROUNDS = sized(7, 2);
const ROUND_SECONDS = sized(1.5, 0.2);
const WARM_UP_SECONDS = sized(1, 0.2);

type Variant = { way: Way; spread: number; accountIds: readonly string[]; rounds: Round[] };
type Round = { perSecond: number; latenciesMs: readonly number[] };

/** Reports of use on one hot account and over many, against a bare guarded update of the same rows. */
export async function credit(bench: Bench): Promise<Report> {
  bench.say(`inserting ${ACCOUNTS.toLocaleString('en')} trial packs`);
  const url = await bench.createDatabase();
  await seedAccounts(url, 2 * ACCOUNTS, [], { isRestEmpty: true });
  const { active, suspended } = await seedPacks(url);
  const db = await connectDatabase({ url, poolMax: CONNECTIONS, applicationName: 'bench-credit' });
  try {
    const variants: Variant[] = SPREADS.flatMap((spread) =>
      WAYS.map((way) => ({
        way,
        spread,
        accountIds: (way === 'refused report' ? suspended : active).slice(0, spread),
        rounds: [],
      })),
    );
    for (const variant of variants) await measure(db, variant, WARM_UP_SECONDS);
    for (let round = 1; round <= ROUNDS; round++) {
      bench.say(`reporting use, round ${round} of ${ROUNDS}`);
      // One after the other in each round, so that whatever else the machine does meets all of them alike.
      for (const variant of variants) variant.rounds.push(await measure(db, variant, ROUND_SECONDS));
    }
    return report(variants);
  } finally {
    await db.close();
  }
}

/** Packs so large that no run can use them up: those of the first half can be spent from, the others cannot. */
async function seedPacks(url: string): Promise<{ active: string[]; suspended: string[] }> {
  return await withClient(url, async (client) => {
    const { rows } = await client.query<{ account_id: string; state: string }>(
      `insert into trial_pack (id, account_id, stripe_session_id, payment_intent, state, redeemed_at, expires_at,
         granted_seconds, remaining_seconds, version)
       select gen_random_uuid(), id, 'cs_' || n, 'pi_' || n, case when n <= $1 then 'active' else 'suspended' end,
         now() - interval '1 day', now() + interval '13 days', 200000000, 200000000, 1
       from (select id, row_number() over (order by id) as n from account) numbered
       returning account_id, state`,
      [ACCOUNTS],
    );
    await client.query('analyze');
    await client.query('checkpoint');
    const idsIn = (state: string) =>
      rows.filter((row) => row.state === state).map(({ account_id }) => account_id);
    return { active: idsIn('active'), suspended: idsIn('suspended') };
  });
}

const BARE = {
  name: 'bare-update',
  text: `update trial_pack set remaining_seconds = remaining_seconds - $2
  where account_id = $1 and remaining_seconds >= $2`,
};

async function measure(db: Database, { way, accountIds }: Variant, seconds: number): Promise<Round> {
  const latenciesMs: number[] = [];
  const startedAt = performance.now();
  const endsAt = startedAt + seconds * 1_000;
  let next = 0;
  const worker = async (): Promise<void> => {
    while (performance.now() < endsAt) {
      const accountId = accountIds[next++ % accountIds.length];
      if (accountId === undefined) throw new Error('there is no account to report for');
      const sentAt = performance.now();
      await once(db, way, accountId);
      latenciesMs.push(performance.now() - sentAt);
    }
  };
  await Promise.all(Array.from({ length: CONNECTIONS }, worker));
  return { perSecond: latenciesMs.length / ((performance.now() - startedAt) / 1_000), latenciesMs };
}

async function once(db: Database, way: Way, accountId: string): Promise<void> {
  if (way === 'bare update') {
    const { rowCount } = await db.pool.query({ ...BARE, values: [accountId, 1] });
    if (rowCount !== 1) throw new Error('the bare update changed nothing');
    return;
  }
  const now = new Date();
  const clock = { now: () => now };
  const use = { accountId, reportId: uuidv7(now), sessionId: 'bench', seconds: 1, usedAt: now };
  const { acceptedSeconds } = await reportUse({ db, clock }, use);
  if (acceptedSeconds !== (way === 'report' ? 1 : 0)) throw new Error(`a ${way} accepted ${acceptedSeconds}`);
}

function report(variants: readonly Variant[]): Report {
  const results = variants.map(({ way, spread, rounds }) => {
    const floor = variants.find((other) => other.spread === spread && other.way === 'bare update');
    const latencies = rounds.flatMap(({ latenciesMs }) => latenciesMs);
    return {
      way,
      accounts: spread,
      perSecond: median(rounds.map(({ perSecond }) => perSecond)),
      ratioToFloor: median(
        rounds.map(({ perSecond }, round) => perSecond / (floor?.rounds[round]?.perSecond ?? Number.NaN)),
      ),
      p50Ms: percentile(latencies, 0.5),
      p99Ms: percentile(latencies, 0.99),
    };
  });
  const named = ({ way, accounts }: { way: Way; accounts: number }) =>
    `${way}, ${accounts === 1 ? 'one hot account' : `${accounts.toLocaleString('en')} accounts`}`;
  return {
    tables: [
      {
        title: `Reporting use of credit, ${CONNECTIONS} connections`,
        columns: ['', 'a second', 'of the floor', 'p50 ms', 'p99 ms'],
        rows: results.map((result) => [
          named(result),
          figure(result.perSecond),
          figure(result.ratioToFloor),
          figure(result.p50Ms),
          figure(result.p99Ms),
        ]),
      },
    ],
    notes: [
      'Floor: one prepared `update … where remaining_seconds >= n` of the same rows, committed to the same disk; no entry, no idempotency, no time.',
      'A report adds the entry with its unique report id, the position, the running balance and the check of time and reservations, in one statement. A refused one has gone the long way: a transaction behind the locks of account and pack.',
      `The caller and PostgreSQL share the machine. Medians of ${ROUNDS} interleaved rounds of ${ROUND_SECONDS} s.`,
    ],
    figures: { connections: CONNECTIONS, rounds: ROUNDS, results },
    charts: {
      'credit.svg': {
        title: 'Reporting use of credit',
        unit: `reports a second at ${CONNECTIONS} connections`,
        bars: results.map((result) => ({
          label: named(result),
          value: result.perSecond,
          ...(result.way === 'bare update'
            ? { isFloor: true }
            : { remark: `${figure(result.ratioToFloor)} of the floor` }),
        })),
      },
    },
  };
}
