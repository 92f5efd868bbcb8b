import { z } from 'zod';
import type { Database } from '../../database/connection.ts';
import { saveTurn, takeTurn } from '../../database/recurring.ts';
import type { SyncDeps } from '../deps.ts';
import { isOutage } from '../sync/failure.ts';
import type { Difference } from './drift.ts';
import { reconcile } from './reconcile.ts';

export type SweepDeps = SyncDeps & {
  /** Waited for before each account. */
  throttle: () => Promise<void>;
  onDrift?: (differences: readonly Difference[]) => void;
};

/** What a sweep came to. */
export type Swept = { checked: number; repaired: number; failed: number };

/** At night, when little is bought. */
const HOUR_UTC = 3;
/** Longer than one account can take; a sweep whose process died goes on elsewhere after this. */
const LEASE_MS = 300_000;
const TOLD_EVERY = 1_000;
/** So often one account is tried, a lease apart, before it is left to the next night. */
const MOST_TRIES = 3;
const BY = 'reconciler';

/**
 * Once a night compares every account that can still change with Stripe and repairs it, because Stripe can fail
 * to make an event at all. Done by one process at a time; goes on where it stopped, after a crash or an outage,
 * and after three tries without the account of which Stripe tells nothing. Null where it is not due or was
 * interrupted by the signal. Throws when Stripe or the database is away.
 */
export async function sweep(deps: SweepDeps, signal: AbortSignal): Promise<Swept | null> {
  const { db, clock, log } = deps;
  const now = clock.now();
  let turn = await takeTurn(db, 'stripe-sweep', { now, leaseMs: LEASE_MS });
  if (!turn) return null;
  const earlier = turn.progress === null ? FRESH : progressSchema.parse(turn.progress);
  let progress = earlier.after === null ? FRESH : earlier;
  for (;;) {
    const accounts = await accountsAfter(db, { after: progress.after, now });
    for (const accountId of accounts) {
      await deps.throttle();
      if (signal.aborted) {
        await saveTurn(db, turn, progress, clock.now());
        return null;
      }
      const tries = progress.tries + 1;
      try {
        const compared = await compare(deps, accountId, { isLastTry: tries >= MOST_TRIES });
        progress = advance(progress, accountId, compared);
      } catch (error) {
        // Whether Stripe is away as a whole or fails for this account alone, the next tries tell.
        await saveTurn(db, turn, { ...progress, tries }, new Date(clock.now().getTime() + LEASE_MS));
        throw error;
      }
      turn = await saveTurn(db, turn, progress, new Date(clock.now().getTime() + LEASE_MS));
      if (progress.checked % TOLD_EVERY === 0) log.info(progress, 'comparing accounts with Stripe');
    }
    if (accounts.length === 0) break;
  }
  const { after: _, tries: __, ...swept } = progress;
  await saveTurn(db, turn, { ...FRESH, ...swept }, nextNight(clock.now()));
  log.info(swept, 'compared every account with Stripe');
  return swept;
}

const progressSchema = z.object({
  /** The last account compared; null between two sweeps. */
  after: z.string().nullable(),
  checked: z.int(),
  repaired: z.int(),
  failed: z.int(),
  /** How often the account that comes next has been tried in vain. */
  tries: z.int().default(0),
});
type Progress = z.infer<typeof progressSchema>;
const FRESH: Progress = { after: null, checked: 0, repaired: 0, failed: 0, tries: 0 };

type Compared = 'same' | 'repaired' | 'failed';

function advance(progress: Progress, accountId: string, result: Compared): Progress {
  const { checked, repaired, failed } = progress;
  return {
    after: accountId,
    checked: checked + 1,
    repaired: repaired + (result === 'repaired' ? 1 : 0),
    failed: failed + (result === 'failed' ? 1 : 0),
    tries: 0,
  };
}

async function compare(
  deps: SweepDeps,
  accountId: string,
  { isLastTry }: { isLastTry: boolean },
): Promise<Compared> {
  try {
    const differences = await reconcile(deps, accountId, { by: BY });
    if (differences.length === 0) return 'same';
    deps.log.warn({ accountId, differences }, 'an account differed from Stripe and was repaired');
    deps.onDrift?.(differences);
    return 'repaired';
  } catch (error) {
    // When Stripe is away as a whole the sweep waits; one account's trouble is counted and does not stop it.
    if (isOutage(error) && !isLastTry) throw error;
    deps.log.error({ accountId, err: error }, 'an account could not be compared with Stripe');
    return 'failed';
  }
}

/** So long after the end of a customer or a subscription a payment may still come of which no event tells. */
const FORMER_MS = 30 * 86_400_000;

/**
 * The next accounts that can still change at Stripe, in the order of their ids: all that have a customer, except
 * where the subscription has been over for a month and nothing else is open; and of those whose customer Stripe has deleted the ones
 * with a pack whose payment can still be given back, or where a payment made before may still come.
 */
export async function accountsAfter(
  { pool }: Database,
  { after, now }: { after: string | null; now: Date },
): Promise<string[]> {
  const { rows } = await pool.query<{ id: string }>(
    `select a.id from account a
left join subscription s on s.account_id = a.id
where ($1::uuid is null or a.id > $1)
  and (a.stripe_customer_id is not null or exists (select from former_stripe_customer f where f.account_id = a.id))
  and ((a.stripe_customer_id is not null and (s.status is null or s.status not in ('canceled', 'incomplete_expired')))
    or (a.stripe_customer_id is not null and s.ended_at > $2)
    or exists (select from former_stripe_customer f where f.account_id = a.id and f.since > $2)
    or exists (select from checkout_attempt c where c.account_id = a.id and c.state in ('open', 'closing', 'awaiting_payment'))
    or exists (select from trial_pack t where t.account_id = a.id and t.state in ('active', 'suspended')))
order by a.id limit 100`,
    [after, new Date(now.getTime() - FORMER_MS)],
  );
  return rows.map(({ id }) => id);
}

function nextNight(now: Date): Date {
  const night = new Date(now);
  night.setUTCHours(HOUR_UTC, 0, 0, 0);
  if (night <= now) night.setUTCDate(night.getUTCDate() + 1);
  return night;
}
