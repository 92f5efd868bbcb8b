import { toWireTime } from '../../../shared/time.ts';
import type { Tx } from '../../database/connection.ts';
import { Account } from '../../database/entities/account.ts';
import { CheckoutAttempt, Subscription, TrialPack } from '../../database/entities/billing.ts';
import type { LockedAccount } from '../../database/locks.ts';
import type { Effect } from '../sync/effects.ts';
import type { Alert } from '../sync/subscription/project.ts';
import { projected } from '../sync/subscription/record-row.ts';

/** The audit log holds these words for ever: one that is no longer found stays, with what it meant. */
export const DIFFERENCE_KINDS = [
  'customer',
  'subscription',
  'tier',
  'pending_tier',
  'pending_plan',
  'status',
  'billing_period',
  'current_period_start',
  'current_period_end',
  'cancel_at_period_end',
  'ends_at',
  'ended_at',
  'surplus_subscription',
  'checkout_session',
  'trial_pack',
] as const;
export type DifferenceKind = (typeof DIFFERENCE_KINDS)[number];

/** One thing that we hold otherwise than Stripe does; null where one of the two has nothing. */
export type Difference = {
  readonly kind: DifferenceKind;
  /** Which one, where an account can have several. */
  readonly id: string | null;
  readonly ours: string | null;
  readonly stripe: string | null;
  /** What becomes of it, where it is not simply taken over from Stripe. */
  readonly outlook?: string;
};

/** A difference as a person reads it: `tier: ours api_builder, Stripe's api_scale`. */
export function inWords({ kind, id, ours, stripe, outlook }: Difference): string {
  const what = kind.replaceAll('_', ' ') + (id === null ? '' : ` ${id}`);
  const then = outlook === undefined ? '' : ` (${outlook})`;
  return `${what}: ours ${ours ?? 'none'}, Stripe's ${stripe ?? 'none'}${then}`;
}

/** Everything of an account that follows Stripe, as words by what they describe. */
export type Holdings = ReadonlyMap<string, { kind: DifferenceKind; id: string | null; value: string }>;

/** Reads what we hold now, past what the entity manager remembers. */
export async function readHoldings(tx: Tx, accountId: string): Promise<Holdings> {
  const anew = { disableIdentityMap: true } as const;
  const account = await tx.findOneOrFail(Account, accountId, anew);
  const row = await tx.findOne(Subscription, { accountId }, anew);
  const pack = await tx.findOne(TrialPack, { accountId }, anew);
  const attempts = await tx.find(
    CheckoutAttempt,
    { accountId, stripeSessionId: { $ne: null } },
    { ...anew, orderBy: { createdAt: 'asc' } },
  );
  const found: [DifferenceKind, string | null, string | null | undefined][] = [
    ['customer', null, account.stripeCustomerId],
    ...(row ? ofRow(row) : []),
    ...attempts.map(
      ({ stripeSessionId: id, state }) =>
        ['checkout_session', id ?? null, state] satisfies [DifferenceKind, string | null, string],
    ),
    ['trial_pack', null, pack && `${pack.state} with ${pack.remainingSeconds} s of ${pack.grantedSeconds} s`],
  ];
  return new Map(
    found.flatMap(([kind, id, value]) => (value ? [[keyOf(kind, id), { kind, id, value }]] : [])),
  );
}

const keyOf = (kind: DifferenceKind, id: string | null): string => `${kind} ${id}`;

function ofRow(row: Subscription): [DifferenceKind, null, string | null][] {
  const { stripeSubscriptionId, tier, pending, status, billingPeriod, ...rest } = projected(row);
  const booked = pending && `${pending.tier} ${pending.billingPeriod} from ${toWireTime(pending.changesAt)}`;
  return [
    ['subscription', null, stripeSubscriptionId],
    ['tier', null, tier],
    ['pending_plan', null, booked],
    ['status', null, status],
    ['billing_period', null, billingPeriod],
    ['current_period_start', null, toWireTime(rest.currentPeriodStart)],
    ['current_period_end', null, toWireTime(rest.currentPeriodEnd)],
    ['ends_at', null, rest.endsAt && toWireTime(rest.endsAt)],
    ['ended_at', null, rest.endedAt && toWireTime(rest.endedAt)],
  ];
}

/** What a pass changed, or would change: its state before is ours, the one after it is Stripe's. */
export function differencesBetween(ours: Holdings, stripe: Holdings): Difference[] {
  const keys = new Set([...ours.keys(), ...stripe.keys()]);
  const isSame = (key: string): boolean => ours.get(key)?.value === stripe.get(key)?.value;
  return [...keys].flatMap((key): Difference[] => {
    const [mine, theirs] = [ours.get(key), stripe.get(key)];
    const named = mine ?? theirs;
    if (!named || mine?.value === theirs?.value) return [];
    // A row that was over before we kept the moment learns it: nothing of it was wrong.
    if (named.kind === 'ended_at' && !mine && isSame(keyOf('status', null))) return [];
    const { kind, id } = named;
    return [{ kind, id, ours: mine?.value ?? null, stripe: theirs?.value ?? null }];
  });
}

/** A subscription beside the one we hold; none where somebody else has ended it meanwhile. */
export function secondLive(id: string, outlook: string | undefined): Difference[] {
  if (outlook === undefined) return [];
  return [{ kind: 'surplus_subscription', id, ours: null, stripe: 'live', outlook }];
}

/** Why two live ones stay: `left to a person, sub_1 ends by itself`. */
export const leftAlone = ({ because, of }: Extract<Alert, { kind: 'duplicate_left' }>): string =>
  `left to a person, ${of}: ${because.replaceAll('_', ' ')}`;

/** One entry for the whole repair. It is named by where the audit log stood before, under the account's lock. */
export function repaired(
  { id, auditPosition }: Pick<LockedAccount, 'id' | 'auditPosition'>,
  by: string,
  differences: readonly Difference[],
): readonly Effect[] {
  if (differences.length === 0) return [];
  const key = `reconciled:${id}:${auditPosition}`;
  const payload = { by, differences };
  return [{ kind: 'audit', key, action: 'operator.reconciled', target: null, payload }];
}
