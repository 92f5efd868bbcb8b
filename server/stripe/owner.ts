import { formatId } from '../../shared/ids.ts';
import type { Clock } from '../../shared/time.ts';
import type { Database, Tx } from '../database/connection.ts';
import { Account } from '../database/entities/account.ts';
import { StripeEvent } from '../database/entities/journal.ts';
import { accountNamedBy, parseEvent } from './events.ts';
import { reasonOf } from './failure.ts';
import type { StripeCalls } from './gateway.ts';
import { idOf } from './purchase.ts';

export type Owners = {
  owned: readonly { eventId: string; accountId: string }[];
  /** Events whose account could not be found out this time, with the reason. */
  failures: ReadonlyMap<string, string>;
};

/**
 * Finds the account of each waiting event and writes it onto the event. Our mapping of customers decides. An event that nobody owns is ignored; one that names another account than its customer's
 * is set aside as `dead`, both with the reason.
 */
export async function assignOwners(
  { db, gateway, clock }: { db: Database; gateway: StripeCalls; clock: Clock },
  eventIds: readonly string[],
): Promise<Owners> {
  const events = await db.orm.em.fork().find(StripeEvent, { id: { $in: [...eventIds] }, state: 'received' });
  const owned = events.flatMap(({ id: eventId, accountId }) => (accountId ? { eventId, accountId } : []));
  const ownerless = events.filter(({ accountId }) => !accountId);
  const failures = new Map<string, string>();
  if (ownerless.length === 0) return { owned, failures };
  // Stripe is asked before the transaction begins; only disputes and refunds need it.
  const customers = new Map<string, string | null>();
  for (const event of ownerless) {
    try {
      customers.set(event.id, event.customerId ?? (await askStripe(gateway, event)));
    } catch (error) {
      failures.set(event.id, reasonOf(error));
    }
  }

  await db.transaction(async (tx) => {
    const accounts = await accountsOf(tx, [...customers.values()]);
    for (const event of ownerless) {
      if (failures.has(event.id)) continue;
      const customer = customers.get(event.id) ?? null;
      const account = customer === null ? undefined : accounts.get(customer);
      const fate = fateOf(event, customer, account);
      await tx.nativeUpdate(StripeEvent, { id: event.id, state: 'received' }, settled(fate, clock.now()));
      if (fate.kind === 'owned') owned.push({ eventId: event.id, accountId: fate.accountId });
    }
  });
  return { owned, failures };
}

type Fate = { kind: 'owned'; accountId: string } | { kind: 'ignored' | 'dead'; reason: string };

function fateOf(event: StripeEvent, customer: string | null, accountId: string | undefined): Fate {
  if (accountId === undefined) {
    return { kind: 'ignored', reason: `No account of ours has the Stripe customer ${customer ?? '(none)'}` };
  }
  const body = parseEvent(event.raw);
  const named = body && accountNamedBy(body);
  if (named?.startsWith('acc_') && named !== formatId('acc', accountId)) {
    return { kind: 'dead', reason: `The object names ${named}, its customer belongs to another account` };
  }
  return { kind: 'owned', accountId };
}

function settled(fate: Fate, now: Date) {
  if (fate.kind === 'owned') return { accountId: fate.accountId };
  return { state: fate.kind, error: fate.reason, processedAt: now };
}

async function accountsOf(
  tx: Tx,
  customers: readonly (string | null)[],
): Promise<ReadonlyMap<string, string>> {
  const ids = customers.filter((id) => id !== null);
  const accounts = await tx.find(Account, { stripeCustomerId: { $in: ids } });
  return new Map(
    accounts.flatMap(({ id, stripeCustomerId }) => (stripeCustomerId ? [[stripeCustomerId, id]] : [])),
  );
}

/** Disputes and refunds carry no customer; the payment they are about does. */
async function askStripe(stripe: StripeCalls, { type, objectId }: StripeEvent): Promise<string | null> {
  if (!objectId) return null;
  const about = type.startsWith('charge.dispute.')
    ? await stripe.readDispute(objectId)
    : type === 'refund.failed'
      ? await stripe.readRefund(objectId)
      : null;
  const paymentIntent = about && idOf(about.payment_intent);
  return paymentIntent ? idOf((await stripe.readPaymentIntent(paymentIntent))?.customer) : null;
}
