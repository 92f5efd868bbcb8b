import type Stripe from 'stripe';
import type { Tx } from '../database/connection.ts';
import { type Account, FormerStripeCustomer } from '../database/entities/account.ts';
import { CheckoutAttempt, TrialPack } from '../database/entities/billing.ts';
import type { StripeEvent } from '../database/entities/journal.ts';
import type { Cause } from './cause.ts';
import { isHandled } from './events.ts';
import { type Fact, readFact } from './facts.ts';
import type { StripeCalls } from './gateway.ts';
import { billedSince } from './plan-lines.ts';
import { isLive, type Projection, type SubscriptionRow } from './project.ts';
import { idOf, readPackFacts, readPaymentFacts, readSessionFacts, type SessionFacts } from './purchase.ts';
import { isSamePlan, type PriceMap, phaseBegan } from './schedule.ts';

type Pending = Pick<StripeEvent, 'id' | 'type' | 'objectId' | 'createdAt'>;

/** Every subscription of the account's customer; whether Stripe has deleted it is asked where that may be so. */
export async function readSubscriptions(
  stripe: StripeCalls,
  { stripeCustomerId }: Account,
  events: readonly Pending[],
  cause: Cause,
): Promise<{ subscriptions: Stripe.Subscription[]; customerGone: boolean }> {
  if (!stripeCustomerId) return { subscriptions: [], customerGone: false };
  const toldGone = events.some(
    ({ type, objectId }) => type === 'customer.deleted' && objectId === stripeCustomerId,
  );
  if (toldGone || cause.kind === 'reconcile') {
    const customer = await stripe.readCustomer(stripeCustomerId);
    if (customer?.deleted) return { subscriptions: [], customerGone: true };
    // Without an event that says so, a customer Stripe has never heard of more likely means the wrong key.
    if (customer === null && toldGone) return { subscriptions: [], customerGone: true };
    if (customer === null) throw new Error(`Stripe does not know the customer ${stripeCustomerId}`);
  }
  return { subscriptions: await stripe.listSubscriptions(stripeCustomerId), customerGone: false };
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

/** What each event is about, as Stripe holds it now; an event whose object cannot be read has failed by itself. */
export async function readAll(
  stripe: StripeCalls,
  events: readonly Pending[],
  chosen: Stripe.Subscription | null,
) {
  const facts: { eventId: string; fact: Fact }[] = [];
  const failed = new Map<string, unknown>();
  for (const { id, type, objectId, createdAt: madeAt } of events) {
    if (!isHandled(type)) continue;
    try {
      facts.push({
        eventId: id,
        fact: await readFact(stripe, { type, objectId: objectId ?? null, madeAt }, chosen),
      });
    } catch (error) {
      // Stripe answered for the account just now: what fails here is this one object.
      failed.set(id, error);
    }
  }
  return { facts, failed };
}

/** What the cause itself wants looked at, beside the events. */
export async function readAsked(
  tx: Tx,
  stripe: StripeCalls,
  { id: accountId, stripeCustomerId }: Account,
  cause: Cause,
): Promise<Fact[]> {
  switch (cause.kind) {
    case 'events':
      return [];
    case 'checkout_session':
      return asFacts([await readSessionFacts(stripe, cause.sessionId)]);
    case 'reconcile': {
      const state = { $in: ['open', 'closing', 'awaiting_payment'] as const };
      const attempts = await tx.find(CheckoutAttempt, { accountId, state });
      const former = await tx.find(FormerStripeCustomer, { accountId });
      const customers = [stripeCustomerId ?? [], former.map((one) => one.stripeCustomerId)].flat(2);
      const packs: SessionFacts[] = [];
      for (const customer of customers) packs.push(...(await readPackFacts(stripe, customer)));
      const known = new Set(packs.map(({ session }) => session.id));
      const read = [];
      for (const { stripeSessionId } of attempts) {
        if (stripeSessionId && !known.has(stripeSessionId))
          read.push(await readSessionFacts(stripe, stripeSessionId));
      }
      // The pack that was granted first, so that a second one is known for what it is.
      const pack = await tx.findOne(TrialPack, { accountId });
      if (pack && !known.has(pack.stripeSessionId))
        read.push(await readPaymentFacts(stripe, pack.paymentIntent));
      const first = ({ session }: SessionFacts) =>
        session.id === pack?.stripeSessionId ? 0 : session.created;
      return asFacts([...read, ...packs.sort((a, b) => first(a) - first(b))]);
    }
  }
}

const asFacts = (read: readonly (Awaited<ReturnType<typeof readSessionFacts>> | null)[]): Fact[] =>
  read.flatMap((facts) => (facts ? [{ kind: 'session' as const, facts }] : []));
