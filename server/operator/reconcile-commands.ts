import { ProblemError } from '../../shared/errors.ts';
import { formatId } from '../../shared/ids.ts';
import { readBilling } from '../billing/caller.ts';
import type { Database } from '../database/connection.ts';
import type { SyncDeps } from '../stripe/deps.ts';
import { type Difference, inWords } from '../stripe/repair/drift.ts';
import { reconcile } from '../stripe/repair/reconcile.ts';
import { accountsAfter } from '../stripe/repair/sweep.ts';
import { createThrottle } from '../stripe/repair/throttle.ts';
import { isOutage, reasonOf } from '../stripe/sync/failure.ts';
import { accountNamed } from './account-word.ts';
import type { CommandContext, Given } from './command.ts';
import { withDatabase } from './database.ts';
import { reachStripe } from './stripe.ts';
import { ACCOUNT } from './words.ts';

const TOLD_EVERY = 100;
/** When Stripe fails for so many accounts in a row, it is Stripe and not the accounts. */
const MOST_IN_A_ROW = 3;

type Found = { account_id: string; differences: readonly Difference[] };
type Failed = { account_id: string; reason: string };

/** `reconcile`: what `commands.ts` says of it. */
export async function reconcileAccounts(context: CommandContext, given: Given): Promise<void> {
  const dryRun = given.flag('dry-run');
  const word = given.optionalWord(ACCOUNT);
  const account = word === undefined ? null : accountNamed(word);
  const { found, failed, checked } = await withDatabase(context.config, async (db) =>
    compareAll(context, db, { only: account === null ? null : await account(db), dryRun }),
  );
  const what = dryRun ? 'differ' : 'differed and were repaired';
  context.say(`Compared ${checked} with Stripe: ${found.length} ${what}, ${failed.length} failed.`);
  context.answer({ dry_run: dryRun, checked, differing: found, failed });
  if (failed.length > 0)
    throw new ProblemError('internal', 'Not every account could be compared with Stripe.');
}

async function compareAll(
  { config, now, say }: CommandContext,
  db: Database,
  { only, dryRun }: { only: string | null; dryRun: boolean },
): Promise<{ found: Found[]; failed: Failed[]; checked: number }> {
  const log = { info: () => {}, warn: () => {}, error: (_: object, message: string) => say(message) };
  const deps: SyncDeps = { db, gateway: reachStripe(config), clock: { now }, log };
  const throttle = createThrottle();
  const found: Found[] = [];
  const failed: Failed[] = [];
  let checked = 0;
  let awayInARow = 0;
  for await (const accountId of accounts(db, only, now())) {
    await throttle();
    const account_id = formatId('acc', accountId);
    try {
      const differences = await reconcile(deps, accountId, { by: 'reconciler', dryRun });
      if (differences.length > 0) {
        found.push({ account_id, differences });
        say(account_id);
        for (const difference of differences) say(`  ${inWords(difference)}`);
      }
      awayInARow = 0;
    } catch (error) {
      // Without Stripe there is nothing to compare with; one account's own trouble leaves the others.
      awayInARow = isOutage(error) ? awayInARow + 1 : 0;
      if (awayInARow === MOST_IN_A_ROW) throw error;
      failed.push({ account_id, reason: reasonOf(error) });
      say(`${account_id}\n  could not be compared: ${reasonOf(error)}`);
    }
    checked += 1;
    if (checked % TOLD_EVERY === 0) say(`… ${checked} compared, ${found.length} differ`);
  }
  return { found, failed, checked };
}

async function* accounts(db: Database, only: string | null, now: Date): AsyncGenerator<string> {
  if (only !== null) {
    // Throws where there is no such account.
    await readBilling(db, only);
    yield only;
    return;
  }
  for (let after: string | null = null; ; ) {
    const page = await accountsAfter(db, { after, now });
    yield* page;
    after = page.at(-1) ?? null;
    if (after === null) return;
  }
}
