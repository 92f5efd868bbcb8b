import { randomBytes } from 'node:crypto';
import Stripe from 'stripe';
import { money } from '../money.ts';
import type { World } from '../world.ts';
import type { Period } from './periods.ts';
import { productName, productOf } from './prices.ts';
import type { Debit } from './proration.ts';

/** What an invoice line or a pending invoice item says, before it has an id. */
export interface DraftLine {
  readonly amountCents: number;
  readonly currency: string;
  readonly description: string | null;
  readonly period: Period;
  readonly price: Stripe.Price | null;
  readonly quantity: number;
  readonly subscription: string | null;
  readonly subscriptionItem: string | null;
  readonly proration: boolean;
  /** The debit that a negative proration takes back. */
  readonly credits: Debit | null;
  readonly invoiceItem: string | null;
  readonly discountable: boolean;
  readonly metadata: Stripe.Metadata;
}

/** The line of a whole period of a subscription item, or of its free trial. */
export function periodLine(
  world: World,
  item: Stripe.SubscriptionItem,
  amountCents: number,
  trial: boolean,
): DraftLine {
  const quantity = item.quantity ?? 1;
  const name = productName(world, item.price);
  return {
    amountCents,
    currency: item.price.currency,
    description: trial
      ? `Trial period for ${name}`
      : `${quantity} × ${name} (at ${money(item.price.unit_amount ?? 0, item.price.currency)} / ${every(item.price)})`,
    period: { start: item.current_period_start, end: item.current_period_end },
    price: item.price,
    quantity,
    subscription: item.subscription,
    subscriptionItem: item.id,
    proration: false,
    credits: null,
    invoiceItem: null,
    discountable: true,
    metadata: item.metadata,
  };
}

/** The complete line object on an invoice. */
export function lineOn(invoice: string | null, draft: DraftLine): Stripe.InvoiceLineItem {
  return {
    id: `il_${randomBytes(12).toString('hex')}`,
    object: 'line_item',
    amount: draft.amountCents,
    currency: draft.currency,
    description: draft.description,
    discount_amounts: [],
    discountable: draft.discountable,
    discounts: [],
    invoice,
    livemode: false,
    metadata: draft.metadata,
    parent: lineParent(draft),
    period: draft.period,
    pretax_credit_amounts: [],
    pricing:
      draft.price === null
        ? null
        : {
            type: 'price_details',
            price_details: { price: draft.price.id, product: productOf(draft.price) },
            unit_amount_decimal:
              draft.price.unit_amount === null ? null : Stripe.Decimal.from(draft.price.unit_amount),
          },
    quantity: draft.quantity,
    quantity_decimal: Stripe.Decimal.from(draft.quantity),
    subscription: draft.subscription,
    subtotal: draft.amountCents,
    taxes: [],
  };
}

const shortDay = new Intl.DateTimeFormat('en-GB', {
  day: 'numeric',
  month: 'short',
  year: 'numeric',
  timeZone: 'UTC',
});

/** `1 May 2026`, in UTC. */
export function day(at: number): string {
  return shortDay.format(at * 1000);
}

function every(price: Stripe.Price): string {
  const count = price.recurring?.interval_count ?? 1;
  const interval = price.recurring?.interval ?? 'month';
  return count === 1 ? interval : `every ${count} ${interval}s`;
}

function lineParent(draft: DraftLine): Stripe.InvoiceLineItem.Parent | null {
  const { credits } = draft;
  const prorationDetails = {
    credited_items:
      credits !== null && credits.invoice !== null && credits.line !== null
        ? { invoice: credits.invoice, invoice_line_items: [credits.line] }
        : null,
  };
  if (draft.subscriptionItem !== null)
    return {
      type: 'subscription_item_details',
      invoice_item_details: null,
      subscription_item_details: {
        invoice_item: draft.invoiceItem,
        proration: draft.proration,
        proration_details: prorationDetails,
        subscription: draft.subscription,
        subscription_item: draft.subscriptionItem,
      },
    };
  if (draft.invoiceItem === null) return null;
  return {
    type: 'invoice_item_details',
    invoice_item_details: {
      invoice_item: draft.invoiceItem,
      proration: draft.proration,
      proration_details: prorationDetails,
      subscription: draft.subscription,
    },
    subscription_item_details: null,
  };
}
