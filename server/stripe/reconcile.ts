import type { SyncDeps } from './deps.ts';
import type { Difference } from './drift.ts';
import { pass } from './pass.ts';
import { synchroniseNow } from './synchronise.ts';
import { inTurn } from './turns.ts';

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
  const { differences } = await inTurn(deps.db, accountId, { ...cause, dryRun }, async (stripeMs) => {
    if (!dryRun) await synchroniseNow(deps, accountId, { kind: 'events' }, stripeMs);
    // Events that cannot be processed have been tried just now, and must not stand in the way of the comparison.
    return await pass(deps, accountId, cause, { only: [], dryRun, stripeMs });
  });
  return differences;
}
