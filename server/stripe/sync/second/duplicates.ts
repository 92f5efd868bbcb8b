import type Stripe from 'stripe';
import { z } from 'zod';
import { toWireTime } from '../../../../shared/time.ts';
import type { Tx } from '../../../database/connection.ts';
import { AuditEntry } from '../../../database/entities/journal.ts';
import { money } from '../../../notify/format.ts';
import type { Plan } from '../../../notify/templates.ts';
import type { StripeCalls } from '../../api/gateway.ts';
import type { Alarm } from '../../deps.ts';
import type { Effect, Source } from '../effects.ts';
import { idOf } from '../purchase/purchase.ts';
import { bothSince, type Cost, type Doubt, isBackdatedTo, readCost } from './cost.ts';
import { type GivenBack, giveBack } from './giving-back.ts';
import { type Books, countedForPacks } from './shared-charge.ts';
import { endedBefore, type Surplus } from './surplus.ts';

type Context = Books & {
  stripe: StripeCalls;
  alarms: Alarm[];
};

type Known = {
  source: Source;
  /** Looks as well for what a bank paid since without our hearing of it. */
  anew: boolean;
  /** What a subscription is for, where we know its price. */
  planOf: (subscription: Stripe.Subscription) => Plan | null;
  /** What the account goes on with. */
  kept: Plan | null;
};

/** What is to become of each, in words for a person: `ended; to give back: $99.00`. */
export type Outlooks = ReadonlyMap<string, string>;

/**
 * Gives back what the second subscriptions we ended have cost for the time in which another one was there, where
 * that is certain and no more than one period of it, and returns what is to be written down about it, as far as
 * that has not been yet. Until it is written, each pass does it again, to no further effect.
 */
export async function effectsOfDuplicates(
  context: Context,
  ended: readonly Surplus[],
  { source, anew, planOf, kept }: Known,
): Promise<{ effects: Effect[]; outlooks: Outlooks }> {
  const { tx, stripe, alarms } = context;
  const effects: Effect[] = [];
  const outlooks = new Map<string, string>();
  if (ended.length === 0) return { effects, outlooks };
  const keys = ended.map(({ subscription }) => keyOf(subscription.id));
  const written = await tx.find(AuditEntry, { dedupeKey: { $in: keys } }, { fields: ['dedupeKey'] });
  const known = new Set(written.map(({ dedupeKey }) => dedupeKey));
  for (const surplus of ended) {
    const { subscription, beside } = surplus;
    const { id, currency } = subscription;
    const key = keyOf(id);
    if (known.has(key)) {
      for (const invoice of anew ? await stripe.listPaidInvoices(id) : [])
        effects.push(...(await lateEffects(context, surplus, invoice, source)));
      continue;
    }
    const cost = await costOf(stripe, surplus);
    outlooks.set(id, outlookOf(cost, currency));
    const given = await giveAllBack(context, cost);
    if (given.doubt !== null) alarms.push(unrefunded(id, given.doubt, cost.cents - given.cents));
    const payload = {
      beside: beside?.id ?? null,
      both_since: beside && toWireTime(new Date(bothSince(subscription, beside) * 1_000)),
      refunded_cents: given.cents,
      ...leftOf(cost.cents, given),
      currency,
      invoices: cost.parts.map(({ invoice }) => invoice.id),
      refunded_by_invoice: given.byInvoice,
      ...source,
    };
    const plan = planOf(subscription);
    effects.push(
      { kind: 'audit', key, action: 'subscription.duplicate_canceled', target: id, payload },
      {
        kind: 'mail',
        key,
        template: 'duplicate_purchase_refunded',
        data: {
          purchase: 'subscription',
          amountCents: given.cents || null,
          currency,
          ...(plan && { ended: plan }),
          ...(kept && { kept }),
          rest: restOf(given.doubt),
        },
      },
    );
  }
  return { effects, outlooks };
}

/**
 * Gives back what was paid for a second subscription after we had ended it: a bank that takes days to settle
 * does not stop for that. Nothing where the money had been given back, with the end or by an earlier call.
 */
export async function returnLatePayment(
  context: Context & { subscriptions: readonly Stripe.Subscription[] },
  invoice: Stripe.Invoice,
  source: Source,
): Promise<Effect[]> {
  const id = idOf(invoice.parent?.subscription_details?.subscription);
  if (id === null) return [];
  const surplus = endedBefore(context.subscriptions).find(({ subscription }) => subscription.id === id);
  if (surplus) return await lateEffects(context, surplus, invoice, source);
  // Stripe lists nothing of a customer who was deleted: what they had is not known any more.
  const isListed = context.subscriptions.some((subscription) => subscription.id === id);
  return isListed ? [] : await unlistedEffects(context, id, invoice, source);
}

async function unlistedEffects(
  { tx, alarms }: Context,
  id: string,
  invoice: Stripe.Invoice,
  source: Source,
): Promise<Effect[]> {
  if (!(await isLate(tx, id, invoice))) return [];
  const doubt = 'beside_unknown';
  alarms.push(unrefunded(id, doubt, invoice.amount_paid));
  const payload = {
    refunded_cents: 0,
    left_cents: invoice.amount_paid,
    left_because: doubt,
    currency: invoice.currency,
    invoice: invoice.id,
    ...source,
  };
  const action = 'subscription.duplicate_unrefunded';
  return [{ kind: 'audit', key: lateKeyOf(invoice), action, target: id, payload }];
}

async function lateEffects(
  context: Context,
  surplus: Surplus,
  invoice: Stripe.Invoice,
  source: Source,
): Promise<Effect[]> {
  const { tx, stripe, alarms } = context;
  const { id, currency } = surplus.subscription;
  if (!(await isLate(tx, id, invoice))) return [];
  const key = lateKeyOf(invoice);
  // Together with what was given back before, it is still one subscription that was one too many.
  const cost = await costOf(stripe, surplus);
  const cents = cost.parts.find((part) => part.invoice.id === invoice.id)?.cents ?? 0;
  const given = cost.doubt === null ? await giveBackOf(context, invoice, cents) : none(cost.doubt);
  const payload = {
    refunded_cents: given.cents,
    ...leftOf(cents, given),
    currency,
    invoice: invoice.id,
    ...source,
  };
  const audit = { kind: 'audit', key, target: id, payload } as const;
  if (given.doubt !== null) alarms.push(unrefunded(id, given.doubt, cents - given.cents));
  // The bank has taken it back itself, or it was for a time without another one: no news for the customer.
  if (given.cents === 0)
    return given.doubt === null ? [] : [{ ...audit, action: 'subscription.duplicate_unrefunded' }];
  return [
    { ...audit, action: 'subscription.duplicate_refunded' },
    {
      kind: 'mail',
      key,
      template: 'duplicate_purchase_refunded',
      data: {
        purchase: 'subscription',
        amountCents: given.cents,
        currency,
        rest: restOf(given.doubt),
      },
    },
  ];
}

/** Whether an invoice was paid after its subscription had been ended and written down, and is not written down itself. */
async function isLate(tx: Tx, subscriptionId: string, invoice: Stripe.Invoice): Promise<boolean> {
  if (invoice.status !== 'paid' || invoice.amount_paid === 0) return false;
  const keys = [keyOf(subscriptionId), lateKeyOf(invoice)];
  const entries = await tx.find(AuditEntry, { dedupeKey: { $in: keys } });
  const written = new Map(entries.map((entry) => [entry.dedupeKey, entry]));
  const ended = written.get(keyOf(subscriptionId));
  if (!ended || written.has(lateKeyOf(invoice))) return false;
  return !withTheEnd.parse(ended.payload).invoices.includes(invoice.id ?? '');
}

const withTheEnd = z.object({ invoices: z.array(z.string()) });

function outlookOf({ cents, doubt }: Cost, currency: string): string {
  const amount = money(cents, currency);
  return doubt === null
    ? `ended; to give back: ${amount}`
    : `ended; left to a person, ${doubt.replaceAll('_', ' ')}: ${amount}`;
}

async function costOf(stripe: StripeCalls, { subscription, beside }: Surplus): Promise<Cost> {
  // With none beside it that we know of, all of it may be due, or nothing.
  const since = beside === null ? 0 : bothSince(subscription, beside);
  const cost = await readCost(stripe, subscription, since);
  if (cost.cents === 0) return cost;
  if (beside === null) return { ...cost, doubt: 'beside_unknown' };
  return isBackdatedTo(since, beside) ? { ...cost, doubt: cost.doubt ?? 'backdated' } : cost;
}

async function giveAllBack(
  context: Context,
  { parts, doubt: unclear }: Cost,
): Promise<GivenBack & { byInvoice: Record<string, number> }> {
  const byInvoice: Record<string, number> = {};
  if (unclear !== null) return { ...none(unclear), byInvoice };
  let cents = 0;
  let doubt: Doubt | null = null;
  for (const part of parts) {
    const given = await giveBackOf(context, part.invoice, part.cents);
    if (part.invoice.id && given.cents > 0) byInvoice[part.invoice.id] = given.cents;
    cents += given.cents;
    doubt ??= given.doubt;
  }
  return { cents, doubt, byInvoice };
}

async function giveBackOf(context: Context, invoice: Stripe.Invoice, cents: number): Promise<GivenBack> {
  if (cents === 0) return { cents, doubt: null };
  const elsewhere = invoice.id ? await countedForPacks(context, invoice.id) : 0;
  return await giveBack(context.stripe, invoice, { cents, elsewhere });
}

const none = (doubt: Doubt): GivenBack => ({ cents: 0, doubt });

const unrefunded = (id: string, because: Doubt, cents: number): Alarm => ({
  kind: 'duplicate_unrefunded',
  details: { stripe_subscription_id: id, because, cents },
});

const leftOf = (due: number, { cents, doubt }: GivenBack) =>
  doubt === null ? {} : { left_cents: due - cents, left_because: doubt };

/** What the customer is told of money that has not been given back. */
const restOf = (doubt: Doubt | null) =>
  doubt === null ? 'none' : doubt === 'disputed' ? 'with_bank' : 'with_person';

const lateKeyOf = ({ id }: Stripe.Invoice) => `duplicate_late:${id}`;

const keyOf = (subscriptionId: string) => `duplicate:${subscriptionId}`;
