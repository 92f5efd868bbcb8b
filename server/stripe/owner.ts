import { formatId } from '../../shared/ids.ts';
import type { Tx } from '../database/connection.ts';
import { Account, FormerStripeCustomer } from '../database/entities/account.ts';
import { StripeEvent } from '../database/entities/journal.ts';
import { raise } from './alarm.ts';
import type { SyncDeps } from './deps.ts';
import { accountNamedBy, parseEvent } from './events.ts';
import type { StripeCalls } from './gateway.ts';
import { idOf } from './purchase.ts';
import { isSale, readStrangeSale, type StrangeSale } from './stranger.ts';

export type OwnerDeps = Pick<SyncDeps, 'db' | 'gateway' | 'clock' | 'log' | 'onAlarm'>;

export type Owned = { readonly eventId: string; readonly accountId: string };

/** Room for the two calls that lead from a dispute to its customer. */
const STRIPE_MS = 20_000;

/**
 * Finds the account of each waiting event and writes it onto the event. Our mapping of customers, former ones
 * included, decides. An event that nobody owns is ignored; one that names another account than its customer's is set aside as `dead`,
 * both with the reason. Stripe is not called: events of which only Stripe knows the customer come back as
 * `unnamed`, for `askForOwner`.
 */
export async function assignOwners(
  deps: OwnerDeps,
  eventIds: readonly string[],
): Promise<{ owned: readonly Owned[]; unnamed: readonly StripeEvent[] }> {
  const events = await deps.db.orm.em
    .fork()
    .find(StripeEvent, { id: { $in: [...eventIds] }, state: 'received' });
  const known = events.flatMap(({ id: eventId, accountId }) => (accountId ? [{ eventId, accountId }] : []));
  const ownerless = events.filter(({ accountId }) => !accountId);
  const named = ownerless.filter((event) => event.customerId || !isNamedByStripe(event));
  const accounts = await accountsOf(
    deps.db.orm.em.fork(),
    named.map(({ customerId }) => customerId ?? null),
  );
  const isClear = (event: StripeEvent) => accounts.has(event.customerId ?? '') || !isSale(event);
  const customers = new Map(named.filter(isClear).map((event) => [event, event.customerId ?? null]));
  return {
    owned: [...known, ...(await assign(deps, customers, accounts))],
    unnamed: ownerless.filter((event) => !customers.has(event)),
  };
}

/**
 * The same for one event about which Stripe has to be asked: who its customer is, or what a customer of nobody's
 * has bought, for a sale of ours that reaches no account is for a person to look at. Null when nobody owns it.
 */
export async function askForOwner(deps: OwnerDeps, event: StripeEvent): Promise<Owned | null> {
  const stripe = deps.gateway.within(STRIPE_MS);
  const customer = isNamedByStripe(event) ? await askStripe(stripe, event) : (event.customerId ?? null);
  const accounts = await accountsOf(deps.db.orm.em.fork(), [customer]);
  const sale =
    isSale(event) && !accounts.has(customer ?? '') ? await readStrangeSale(deps.db, stripe, event) : null;
  const [owned = null] = await assign(deps, new Map([[event, customer]]), accounts, sale);
  if (sale) raiseAlarm(deps, event, customer, sale);
  return owned;
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

// Whoever has one of them locked is about to do the same: nobody is waited for.
const ASSIGN = `with free as (
  select id from stripe_event where id = any($1::text[]) and state = 'received' and account_id is null
   order by id for no key update skip locked)
update stripe_event set account_id = owner.account_id
from unnest($1::text[], $2::uuid[]) as owner (event_id, account_id), free
where stripe_event.id = owner.event_id and stripe_event.id = free.id`;

/** What becomes of an event follows from its customer; doing it again changes nothing, so this needs no transaction. */
async function assign(
  { db, clock }: OwnerDeps,
  customers: ReadonlyMap<StripeEvent, string | null>,
  accounts: ReadonlyMap<string, string>,
  sale: StrangeSale | null = null,
): Promise<Owned[]> {
  if (customers.size === 0) return [];
  const em = db.orm.em.fork();
  const owned: Owned[] = [];
  for (const [event, customer] of customers) {
    const fate = fateOf(event, customer, customer === null ? undefined : accounts.get(customer));
    if (fate.kind === 'owned') owned.push({ eventId: event.id, accountId: fate.accountId });
    else {
      const { kind: state, reason } = fate;
      const error = sale ? `${reason}, who paid for ${sale.priceIds.join(', ')} of ours` : reason;
      const setAside = { state, error, processedAt: clock.now() };
      await em.nativeUpdate(StripeEvent, { id: event.id, state: 'received' }, setAside);
    }
  }
  if (owned.length > 0) {
    await db.pool.query({
      name: 'assign-stripe-events',
      text: ASSIGN,
      values: [owned.map(({ eventId }) => eventId), owned.map(({ accountId }) => accountId)],
    });
  }
  return owned;
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

/** By customer, the account that has it, or had it until Stripe deleted it. */
async function accountsOf(
  em: Tx,
  customers: readonly (string | null)[],
): Promise<ReadonlyMap<string, string>> {
  const ids = customers.filter((id) => id !== null);
  if (ids.length === 0) return new Map();
  const accounts = await em.find(
    Account,
    { stripeCustomerId: { $in: ids } },
    { fields: ['id', 'stripeCustomerId'] },
  );
  const owners = new Map(
    accounts.flatMap(({ id, stripeCustomerId }) => (stripeCustomerId ? [[stripeCustomerId, id]] : [])),
  );
  const others = ids.filter((id) => !owners.has(id));
  if (others.length === 0) return owners;
  for (const former of await em.find(FormerStripeCustomer, { stripeCustomerId: { $in: others } }))
    owners.set(former.stripeCustomerId, former.accountId);
  return owners;
}

/** Whether this account has the customer, or had it until Stripe deleted it. */
export async function hasCustomer(
  tx: Tx,
  { id: accountId, stripeCustomerId: current }: Account,
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
