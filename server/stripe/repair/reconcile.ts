import type { SyncDeps } from '../deps.ts';
import { finish, underLease } from '../sync/account-lease.ts';
import { pass } from '../sync/pass.ts';
import { synchroniseUnder } from '../sync/synchronise.ts';
import { STRIPE_MS, UNATTENDED_TURN_MS } from '../sync/turns.ts';
import type { Difference } from './drift.ts';

/**
 * Compares what we hold about an account with what Stripe holds, and brings it to that. Each repair is one entry
 * in the audit log, written with it. Events that wait are processed first: what they explain has not drifted. A
 * dry run looks at the same and changes nothing, here or at Stripe. Throws where Stripe cannot be read.
 */
export async function reconcile(
  deps: SyncDeps,
  accountId: string,
  { by, dryRun = false }: { by: string; dryRun?: boolean },
): Promise<readonly Difference[]> {
  const cause = { kind: 'reconcile', by } as const;
  // Events that cannot be processed are tried first, and must not stand in the way of the comparison.
  const terms = { only: [], dryRun, stripeMs: STRIPE_MS, keeps: true } as const;
  return await underLease(deps.db, accountId, UNATTENDED_TURN_MS, async (lease) => {
    if (dryRun) return (await pass(deps, lease, cause, terms)).differences;
    const events = { cause: { kind: 'events' }, stripeMs: STRIPE_MS, keeps: true } as const;
    const { failures, wanted } = await synchroniseUnder(deps, lease, events);
    const { differences } = await pass(deps, lease, cause, terms);
    const failed = failures.values().next().value ?? null;
    await finish(deps.db, lease, { wanted, failed });
    return differences;
  });
}
