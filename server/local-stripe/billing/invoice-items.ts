import Stripe from 'stripe';
import type { World } from '../world.ts';
import { clockOfCustomer, idOf } from './customers.ts';
import type { DraftLine } from './lines.ts';
import { productOf } from './prices.ts';
import type { Debit } from './proration.ts';

/** Stores a pending invoice item, which the next invoice of its subscription or customer takes up. */
export function addInvoiceItem(
  world: World,
  customer: string,
  draft: DraftLine,
  invoice: string | null = null,
): Stripe.InvoiceItem {
  const clock = clockOfCustomer(world, customer);
  const item: Stripe.InvoiceItem = {
    id: world.newId('invoiceitem'),
    object: 'invoiceitem',
    amount: draft.amountCents,
    currency: draft.currency,
    customer,
    customer_account: null,
    date: world.now(clock),
    description: draft.description,
    discountable: draft.discountable,
    discounts: [],
    invoice,
    livemode: false,
    metadata: draft.metadata,
    net_amount: draft.amountCents,
    parent:
      draft.subscription === null
        ? null
        : {
            type: 'subscription_details',
            subscription_details: {
              subscription: draft.subscription,
              ...(draft.subscriptionItem === null ? {} : { subscription_item: draft.subscriptionItem }),
            },
          },
    period: draft.period,
    pricing:
      draft.price === null
        ? null
        : {
            type: 'price_details',
            price_details: { price: draft.price.id, product: productOf(draft.price) },
            unit_amount_decimal:
              draft.price.unit_amount === null ? null : Stripe.Decimal.from(draft.price.unit_amount),
          },
    proration: draft.proration,
    ...(draft.proration
      ? { proration_details: { credited_items: credited(draft.credits), discount_amounts: [] } }
      : {}),
    quantity: draft.quantity,
    quantity_decimal: Stripe.Decimal.from(draft.quantity),
    tax_rates: [],
    test_clock: clock,
  };
  world.add('invoiceitem', item, 'invoiceitem.created');
  world.hidden.put('invoice_item_credits', item.id, { debit: draft.credits });
  return item;
}

/** Items waiting for an invoice: those of one subscription, or (with null) those of the customer alone. */
export function pendingItems(
  world: World,
  customer: string,
  subscription: string | null,
): readonly Stripe.InvoiceItem[] {
  return world
    .ofCustomer('invoiceitem', customer)
    .filter(
      (item) =>
        item.invoice === null && (item.parent?.subscription_details?.subscription ?? null) === subscription,
    );
}

/** The draft line that a pending item becomes on an invoice. */
export function lineOfItem(world: World, item: Stripe.InvoiceItem): DraftLine {
  const priceId = idOf(item.pricing?.price_details?.price);
  return {
    amountCents: item.amount,
    currency: item.currency,
    description: item.description,
    period: item.period,
    price: priceId === null ? null : (world.find('price', priceId) ?? null),
    quantity: item.quantity,
    subscription: item.parent?.subscription_details?.subscription ?? null,
    subscriptionItem: item.parent?.subscription_details?.subscription_item ?? null,
    proration: item.proration,
    credits: world.hidden.get<{ debit: Debit | null }>('invoice_item_credits', item.id)?.debit ?? null,
    invoiceItem: item.id,
    discountable: item.discountable,
    metadata: item.metadata ?? {},
  };
}

function credited(debit: Debit | null): Stripe.InvoiceItem.ProrationDetails.CreditedItems | null {
  if (debit === null) return null;
  if (debit.invoice !== null && debit.line !== null)
    return {
      type: 'invoice_line_items',
      invoice_line_item_details: { invoice: debit.invoice, invoice_line_items: [debit.line] },
    };
  return debit.invoiceItem === null ? null : { type: 'invoice_item', invoice_item: debit.invoiceItem };
}
