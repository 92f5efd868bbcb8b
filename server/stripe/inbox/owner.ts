import { formatId } from '../../../shared/ids.ts';
import type { Tx } from '../../database/connection.ts';
import { notifyDue } from '../../database/due.ts';
import { Account, FormerStripeCustomer } from '../../database/entities/account.ts';
import { StripeEvent } from '../../database/entities/journal.ts';
import { type Held, raiseWanted } from '../../database/lease.ts';
import type { LockedAccount } from '../../database/locks.ts';
import { raise } from '../alarm.ts';
import type { StripeCalls } from '../api/gateway.ts';
import type { SyncDeps } from '../deps.ts';
import { accountNamedBy, parseEvent, type StripeEventBody } from '../events.ts';
import { idOf } from '../sync/purchase/purchase.ts';
import { isSale, readStrangeSale, type StrangeSale } from './stranger.ts';

export type OwnerDeps = Pick<SyncDeps, 'db' | 'gateway' | 'clock' | 'log' | 'onAlarm'>;

/** Room for the two calls that lead from a dispute to its customer. */
const STRIPE_MS = 20_000;

/**
 * Finds the account of an event that this process has the lease of, writes it onto the event and makes the account
 * due. Our mapping of customers, former ones included, decides; Stripe is asked where only it knows the customer, and
 * what a customer of nobody's has bought, for a sale of ours that reaches no account is for a person to look at. An
 * event that nobody owns is ignored; one that names another account than its customer's is set aside as `dead`, both
 * with the reason. Doing it again changes nothing. Null where nobody owns it, or somebody else has the lease by now.
 */
export async function nameOwner(deps: OwnerDeps, held: Held): Promise<string | null> {
  const { db, gateway } = deps;
  const em = db.orm.em.fork();
  const event = await em.findOne(StripeEvent, { id: held.key, state: 'received' });
  if (!event) return await letGo(deps, held);
  // As a version before this one has left it.
  if (event.accountId) return await assign(deps, held, { kind: 'owned', accountId: event.accountId });
  const stripe = gateway.within(STRIPE_MS);
  const customer = isNamedByStripe(event) ? await askStripe(stripe, event) : (event.customerId ?? null);
  const owner = customer === null ? null : await accountOf(em, customer);
  const sale = isSale(event) && owner === null ? await readStrangeSale(db, stripe, event) : null;
  const accountId = await assign(deps, held, fateOf(event, { customer, owner, sale }));
  if (sale) raiseAlarm(deps, event, customer, sale);
  return accountId;
}

function raiseAlarm(
  deps: OwnerDeps,
  { id, objectId, raw }: StripeEvent,
  customer: string | null,
  { priceIds }: StrangeSale,
): void {
  const body = parseEvent(raw);
  raise(deps, null, {
    kind: 'unrecognised_payment',
    details: {
      ...{ reason: 'nobody_of_ours', paid_in: objectId, stripe_customer_id: customer, price_ids: priceIds },
      ...{ names: body && accountNamedBy(body), stripe_event_id: id },
    },
  });
}

type Fate = { kind: 'owned'; accountId: string } | { kind: 'ignored' | 'dead'; reason: string };

function fateOf(
  event: StripeEvent,
  { customer, owner, sale }: { customer: string | null; owner: string | null; sale: StrangeSale | null },
): Fate {
  if (owner === null) {
    const reason = `No account of ours has the Stripe customer ${customer ?? '(none)'}`;
    const bought = sale ? `, who paid for ${sale.priceIds.join(', ')} of ours` : '';
    return { kind: 'ignored', reason: `${reason}${bought}` };
  }
  const body = parseEvent(event.raw);
  const named = body && accountNamedBy(body);
  if (body && contradicts(body, owner)) {
    return { kind: 'dead', reason: `The object names ${named}, its customer belongs to another account` };
  }
  return { kind: 'owned', accountId: owner };
}

/** Whether an event names another account of ours than the one that has its customer. */
function contradicts(event: StripeEventBody, owner: string): boolean {
  const named = accountNamedBy(event);
  return (named?.startsWith('acc_') ?? false) && named !== formatId('acc', owner);
}

const FREED = { dueAt: null, lease: null, leasedUntil: null };

async function assign(
  { db, clock }: OwnerDeps,
  { key: id, lease }: Held,
  fate: Fate,
): Promise<string | null> {
  return await db.transaction(async (tx) => {
    const mine = { id, lease, state: 'received' as const };
    if (fate.kind !== 'owned') {
      const setAside = { state: fate.kind, error: fate.reason, processedAt: clock.now() };
      await tx.nativeUpdate(StripeEvent, mine, { ...FREED, ...setAside });
      return null;
    }
    const { accountId } = fate;
    const assigned = await tx.nativeUpdate(StripeEvent, mine, { ...FREED, accountId });
    if (assigned === 0) return null;
    await raiseWanted(tx, [accountId]);
    await notifyDue(tx, 'account');
    return accountId;
  });
}

async function letGo({ db }: OwnerDeps, { key: id, lease }: Held): Promise<null> {
  await db.orm.em.fork().nativeUpdate(StripeEvent, { id, lease }, FREED);
  return null;
}

/** The account that has a customer, or had it until Stripe deleted it. */
async function accountOf(em: Tx, stripeCustomerId: string): Promise<string | null> {
  const account = await em.findOne(Account, { stripeCustomerId }, { fields: ['id'] });
  if (account) return account.id;
  return (await em.findOne(FormerStripeCustomer, { stripeCustomerId }))?.accountId ?? null;
}

/** Whether this account has the customer, or had it until Stripe deleted it. */
export async function hasCustomer(
  tx: Tx,
  { id: accountId, stripeCustomerId: current }: Pick<LockedAccount, 'id' | 'stripeCustomerId'>,
  customer: string | null,
): Promise<boolean> {
  if (customer === null) return false;
  if (customer === current) return true;
  return (await tx.count(FormerStripeCustomer, { accountId, stripeCustomerId: customer })) > 0;
}

/** Disputes and refunds carry no customer; the payment they are about does. */
const isNamedByStripe = ({ type, objectId }: StripeEvent): boolean =>
  Boolean(objectId) && (type.startsWith('charge.dispute.') || type === 'refund.failed');

async function askStripe(stripe: StripeCalls, { type, objectId }: StripeEvent): Promise<string | null> {
  if (!objectId) return null;
  const about =
    type === 'refund.failed' ? await stripe.readRefund(objectId) : await stripe.readDispute(objectId);
  const paymentIntent = about && idOf(about.payment_intent);
  return paymentIntent ? idOf((await stripe.readPaymentIntent(paymentIntent))?.customer) : null;
}
