import type Stripe from 'stripe';
import type { World } from '../world.ts';
import type { DraftLine } from './lines.ts';
import type { Debit } from './proration.ts';

/** What a subscription was billed for and not yet credited: the base of prorations in flexible billing mode. */
export function debitsOf(world: World, subscription: string): readonly Debit[] {
  return world.hidden.get<{ debits: readonly Debit[] }>('debits', subscription)?.debits ?? [];
}

/** Replaces all that is remembered of a subscription. */
export function setDebits(world: World, subscription: string, debits: readonly Debit[]): void {
  world.hidden.put('debits', subscription, { debits });
}

/** The debit that a charge for an item creates; its place on an invoice follows with `placeDebits`. */
export function debitOf(line: DraftLine, invoiceItem: string | null): Debit | null {
  if (line.subscriptionItem === null || line.price === null || line.amountCents <= 0) return null;
  return {
    item: line.subscriptionItem,
    price: line.price.id,
    quantity: line.quantity,
    amountCents: line.amountCents,
    start: line.period.start,
    end: line.period.end,
    invoice: null,
    line: null,
    invoiceItem,
  };
}

/** Notes on which line of which invoice each debit now stands. Debits of earlier periods are forgotten. */
export function placeDebits(
  world: World,
  subscription: string,
  invoice: string,
  lines: readonly { draft: DraftLine; line: Stripe.InvoiceLineItem }[],
  now: number,
): void {
  const kept = debitsOf(world, subscription)
    .filter((debit) => debit.end > now)
    .map((debit) => {
      const taken = lines.find(
        ({ draft }) => debit.invoiceItem !== null && draft.invoiceItem === debit.invoiceItem,
      );
      return taken ? { ...debit, invoice, line: taken.line.id } : debit;
    });
  const fresh = lines.flatMap(({ draft, line }) => {
    const debit = draft.invoiceItem === null ? debitOf(draft, null) : null;
    return debit === null ? [] : [{ ...debit, invoice, line: line.id }];
  });
  setDebits(world, subscription, [...kept, ...fresh]);
}
