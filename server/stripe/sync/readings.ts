import type Stripe from 'stripe';
import type { Tx } from '../../database/connection.ts';
import type { StripeEvent } from '../../database/entities/journal.ts';
import type { StripeCalls } from '../api/gateway.ts';
import { isHandled } from '../events.ts';
import type { Cause } from './cause.ts';
import { type Fact, readFact } from './facts.ts';
import type { Ours } from './ours.ts';
import type { Known } from './purchase/by-invoice.ts';
import { readSessionFacts } from './purchase/by-session.ts';
import { idOf } from './purchase/purchase.ts';
import { readPurchases } from './purchase/purchases.ts';
import { billedSince } from './subscription/plan-lines.ts';
import { isLive, type Projection, type SubscriptionRow } from './subscription/project.ts';
import { isSamePlan, type PriceMap, phaseBegan } from './subscription/schedule.ts';

type Pending = Pick<StripeEvent, 'id' | 'type' | 'objectId' | 'createdAt'>;

/** `customer`: as Stripe holds it, where it was read. */
type Customer = {
  subscriptions: Stripe.Subscription[];
  customerGone: boolean;
  customer: Stripe.Customer | null;
};

/** Every subscription of the account's customer; whether Stripe has deleted it is asked where that may be so. */
export async function readSubscriptions(
  stripe: StripeCalls,
  { stripeCustomerId }: Ours['account'],
  events: readonly Pending[],
  cause: Cause,
): Promise<Customer> {
  if (!stripeCustomerId) return { subscriptions: [], customerGone: false, customer: null };
  const toldGone = events.some(
    ({ type, objectId }) => type === 'customer.deleted' && objectId === stripeCustomerId,
  );
  const toldChanged = events.some(
    ({ type, objectId }) => type === 'customer.updated' && objectId === stripeCustomerId,
  );
  let customer: Stripe.Customer | null = null;
  if (toldGone || toldChanged || cause.kind === 'reconcile') {
    const found = await stripe.readCustomer(stripeCustomerId);
    if (found?.deleted) return { subscriptions: [], customerGone: true, customer };
    // Without an event that says so, a customer Stripe has never heard of more likely means the wrong key.
    if (found === null && toldGone) return { subscriptions: [], customerGone: true, customer };
    if (found !== null) customer = found;
    else throw new Error(`Stripe does not know the customer ${stripeCustomerId}`);
  }
  return { subscriptions: await stripe.listSubscriptions(stripeCustomerId), customerGone: false, customer };
}

/** The subscriptions that have ended by what we are told, and that Stripe does not list, as those of a deleted customer. */
export function overAndUnlisted(
  events: readonly Pending[],
  subscriptions: readonly Stripe.Subscription[],
): string[] {
  const listed = new Set(subscriptions.map(({ id }) => id));
  return events.flatMap(({ type, objectId }) =>
    type === 'customer.subscription.deleted' && objectId && !listed.has(objectId) ? objectId : [],
  );
}

/** Stripe ends the subscriptions of a customer it deletes, and no longer lists them. */
export function ended(
  projection: Projection,
  before: SubscriptionRow | null,
  customerGone: boolean,
): Projection {
  if (!customerGone || before === null) return projection;
  const status = before.status === 'incomplete_expired' ? before.status : 'canceled';
  // When it ended, Stripe does not say any more.
  const over = { status, pending: null, endsAt: null, entitled: false } as const;
  return { ...projection, row: { ...before, ...over } };
}

/**
 * When the plan of a subscription changed, where Stripe says so: by the phase of its schedule that brought it, or
 * by the lines of its latest invoice, one of which takes back the plan before. Null where neither says.
 */
export async function readPlanChange(
  stripe: Pick<StripeCalls, 'readInvoice' | 'readInvoiceLines'>,
  prices: PriceMap,
  {
    before,
    after,
    chosen,
  }: {
    before: SubscriptionRow | null;
    after: SubscriptionRow | null;
    chosen: Stripe.Subscription | null;
  },
): Promise<Date | null> {
  if (!before || !after || !chosen || !isLive(before.status) || !isLive(after.status)) return null;
  if (before.stripeSubscriptionId !== chosen.id || isSamePlan(before, after)) return null;
  const began = phaseBegan(chosen, prices, { from: before, to: after });
  const latest = idOf(chosen.latest_invoice);
  if (began !== null || latest === null) return began;
  const invoice = await stripe.readInvoice(latest);
  const lines = invoice && (await stripe.readInvoiceLines(invoice));
  return lines && billedSince(lines, prices, after);
}

/** The ids of the subscriptions that we understand: by a price of ours, or because the row is projected from it. */
export function understood(
  subscriptions: readonly Stripe.Subscription[],
  prices: PriceMap,
  chosenId: string | null,
): ReadonlySet<string> {
  const known = subscriptions.filter(({ items }) => items.data.some(({ price }) => prices.has(price.id)));
  return new Set([...known.map(({ id }) => id), ...(chosenId === null ? [] : [chosenId])]);
}

type Knowing = Parameters<typeof readFact>[2];

/** So many events of an account are read side by side. */
const AT_ONCE = 8;

/**
 * What each event is about, as Stripe holds it now; an event whose object cannot be read has failed by itself.
 * `stripe` remembers: all are asked about side by side first, and then gone through one after the other, so that
 * what one of them teaches of our prices is known to the next, whichever answer came first.
 */
export async function readAll(
  stripe: StripeCalls,
  events: readonly Pending[],
  known: Record<'inAdvance' | 'inOrder', Knowing>,
) {
  const about = events.filter(({ type }) => isHandled(type));
  const read = async ({ type, objectId, createdAt: madeAt }: Pending, what: Knowing): Promise<Fact> => {
    if (!isHandled(type)) return { kind: 'nothing' };
    return await readFact(stripe, { type, objectId: objectId ?? null, madeAt }, what);
  };
  if (about.length > 1) {
    const next = about.values();
    const ask = async () => {
      for (const event of next) await read(event, known.inAdvance).catch(() => undefined);
    };
    await Promise.all(Array.from({ length: AT_ONCE }, ask));
  }
  const facts: { eventId: string; fact: Fact }[] = [];
  const failed = new Map<string, unknown>();
  for (const event of about) {
    try {
      facts.push({ eventId: event.id, fact: await read(event, known.inOrder) });
    } catch (error) {
      // Stripe answered for the account just now: what fails here is this one object.
      failed.set(event.id, error);
    }
  }
  return { facts, failed };
}

/** What the cause itself wants looked at, beside the events. */
export async function readAsked(
  em: Tx,
  stripe: StripeCalls,
  account: Ours['account'],
  { cause, known, now }: { cause: Cause; known: Known; now: Date },
): Promise<Fact[]> {
  switch (cause.kind) {
    case 'events':
      return [];
    case 'checkout_session': {
      const facts = await readSessionFacts(stripe, known.catalogue, cause.sessionId);
      return facts ? [{ kind: 'session', facts }] : [];
    }
    case 'reconcile':
      return await readPurchases(em, stripe, account, { known, now });
  }
}
