import type { Database, Tx } from '../../database/connection.ts';
import type { StripeCalls } from '../api/gateway.ts';

/** The same calls without effect, as if they had had it: these two are all by which a pass changes something at Stripe. */
export function withoutEffect(stripe: StripeCalls): StripeCalls {
  return { ...stripe, refund: async () => 'refunded', cancelSubscription: async () => 'canceled' };
}

/** Carries an outcome out of a transaction that is rolled back for its sake. */
class Undone<T> extends Error {
  override readonly name = 'Undone';
  readonly outcome: T;

  constructor(outcome: T) {
    super('This transaction was a dry run.');
    this.outcome = outcome;
  }
}

/** Runs `work` in a transaction, returns what it returns, and takes back all that it wrote. */
export async function undone<T>(db: Database, accountId: string, work: (tx: Tx) => Promise<T>): Promise<T> {
  let undoing: Undone<T> | undefined;
  try {
    return await db.transactionOn(accountId, async (tx) => {
      undoing = new Undone(await work(tx));
      throw undoing;
    });
  } catch (error) {
    if (undoing !== undefined && error === undoing) return undoing.outcome;
    throw error;
  }
}
