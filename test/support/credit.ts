import { createAccount } from '../../server/billing/accounts.ts';
import { applyTrialPack } from '../../server/credit/apply.ts';
import type { TrialPackFacts } from '../../server/credit/project.ts';
import { reportUse } from '../../server/credit/report-use.ts';
import type { Database } from '../../server/database/connection.ts';
import { lockAccount } from '../../server/database/locks.ts';
import { uuidv7 } from '../../server/database/uuid.ts';

const clock = { now: () => new Date() };

/** Tells an account what Stripe holds about its pack, as `synchronise` does: behind the account's lock. */
export async function tellPack(
  db: Database,
  accountId: string,
  over: Partial<TrialPackFacts> = {},
): Promise<void> {
  const facts = {
    sessionId: `cs_${accountId}`,
    paymentIntentId: `pi_${accountId}`,
    paid: true,
    paidAt: clock.now(),
    amountCents: 299,
    amountRefundedCents: 0,
    currency: 'usd',
    disputeStatuses: [],
    ...over,
  };
  await db.transaction(async (tx) => {
    await lockAccount(tx, accountId);
    await applyTrialPack(tx, { accountId, facts, cause: { stripe_event_id: 'evt_1' } }, clock.now());
  });
}

/** Opens an account whose pack was paid for an hour ago, with so much of it left; answers its uuid. */
export async function openPack(
  db: Database,
  { balanceSeconds = 59_800 }: { balanceSeconds?: number } = {},
): Promise<string> {
  const now = clock.now();
  const paidAt = new Date(now.getTime() - 3_600_000);
  const email = `${uuidv7(now)}@example.com`;
  const { id: accountId } = await db.transaction((tx) => createAccount(tx, { email, now }));
  await tellPack(db, accountId, { paidAt });
  const seconds = 59_800 - balanceSeconds;
  const use = { accountId, reportId: `before-${accountId}`, sessionId: 's0', seconds, usedAt: now };
  if (seconds > 0) await reportUse({ db, clock }, use);
  return accountId;
}

/** Lets so much time pass for a pack and its reservations, whatever the clock of the database says. */
export async function letPass(db: Database, accountId: string, seconds: number): Promise<void> {
  await db.transaction(async (tx) => {
    const values = [seconds, seconds, accountId];
    await tx.execute(
      `update trial_pack set redeemed_at = redeemed_at - ? * interval '1 second',
              expires_at = expires_at - ? * interval '1 second' where account_id = ?`,
      values,
    );
    await tx.execute(
      `update credit_reservation set created_at = created_at - ? * interval '1 second',
              expires_at = expires_at - ? * interval '1 second' where account_id = ?`,
      values,
    );
  });
}

/** The first column of a statement's rows. */
export async function column<T>(db: Database, statement: string, values: unknown[]): Promise<T[]> {
  const { rows } = await db.pool.query<T[]>({ text: statement, values, rowMode: 'array' });
  return rows.flatMap((row) => row.slice(0, 1));
}
