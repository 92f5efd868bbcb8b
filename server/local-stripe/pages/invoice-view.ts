import type Stripe from 'stripe';
import { money } from '../money.ts';
import { tag } from './console-product.ts';
import { methodName } from './console-stripe.ts';
import { type Html, html } from './html.ts';
import { alert, page } from './layout.ts';
import {
  type FieldErrors,
  type MethodType,
  methodFields,
  NOTHING_TYPED,
  type TypedMethod,
} from './payment-form.ts';
import { testMethods } from './test-methods.ts';
import { day } from './words.ts';

export interface PaymentTry {
  readonly typed: TypedMethod;
  readonly errors: FieldErrors;
  readonly message: string | null;
  /** The payment method with which the payment only has to be confirmed. */
  readonly toConfirm: Stripe.PaymentMethod | null;
}

export const NO_PAYMENT_YET: PaymentTry = {
  typed: NOTHING_TYPED,
  errors: {},
  message: null,
  toConfirm: null,
};

/** Whether money can still be paid for it. */
export function isPayable(invoice: Stripe.Invoice): boolean {
  return (invoice.status === 'open' || invoice.status === 'uncollectible') && invoice.amount_remaining > 0;
}

/** The hosted page of a finalized invoice; an open one can be paid here. */
export function invoicePage(
  invoice: Stripe.Invoice,
  allowed: readonly MethodType[],
  attempt: PaymentTry,
): string {
  const title = `Invoice ${invoice.number ?? ''}`.trim();
  const payable = isPayable(invoice);
  const address = `/i/${invoice.id ?? ''}`;
  return page({
    title,
    part: 'invoice',
    scripts: ['checkout.js', 'form.js'],
    body: html`<div class="${payable ? 'columns' : 'narrow'}">
<div class="stack">${payable ? confirmCard(invoice, attempt) : null}${paper(invoice, title)}${payable ? html`<div class="card no-print">${testMethods(allowed, attempt.typed, 'paying', address)}</div>` : null}</div>
${
  payable
    ? html`<form method="post" action="${address}" class="card no-print" data-once data-pay>
<h2>${attempt.toConfirm ? 'Or pay with another card' : 'Payment'}</h2>
${attempt.toConfirm ? null : alert(attempt.message)}
${methodFields(allowed, attempt.typed, attempt.errors)}
<button class="main wide" id="pay" data-busy="Paying…">Pay ${money(invoice.amount_remaining, invoice.currency)}</button>
</form>`
    : null
}
</div>`,
  });
}

/** What a mail that asks to confirm a payment leads to: one button, and the bank behind it. */
function confirmCard(invoice: Stripe.Invoice, { toConfirm, message }: PaymentTry): Html | null {
  if (toConfirm === null) return null;
  return html`<section class="card no-print" aria-labelledby="confirm-title">
<h2 id="confirm-title">Confirm this payment</h2>
${alert(message)}
<p>Your bank wants you to confirm <b>${money(invoice.amount_remaining, invoice.currency)}</b> from ${methodName(toConfirm)}. Nothing has to be typed in again.</p>
<form method="post" action="/i/${invoice.id ?? ''}/confirm" data-once><button class="main wide" id="confirm" data-busy="Asking your bank…">Confirm the payment</button></form>
</section>`;
}

function paper(invoice: Stripe.Invoice, title: string): Html {
  return html`<section class="card">
<div class="row spread"><h1>${title}</h1>${tag(invoice.status ?? 'draft')}</div>
<p class="price">${money(invoice.total, invoice.currency)}</p>
<dl class="facts">
<dt>Billed to</dt><dd>${invoice.customer_email ?? invoice.customer_name ?? 'unknown'}</dd>
<dt>Issued</dt><dd>${day(invoice.status_transitions.finalized_at ?? invoice.created)}</dd>
${invoice.status_transitions.paid_at ? html`<dt>Paid</dt><dd>${day(invoice.status_transitions.paid_at)}</dd>` : null}
${invoice.next_payment_attempt ? html`<dt>Tried again</dt><dd>${day(invoice.next_payment_attempt)}</dd>` : null}
</dl>
<dl class="sums">
${invoice.lines.data.map(
  (line) =>
    html`<dt>${line.description ?? 'Item'}${line.period.end - line.period.start < 86_400 ? null : html`<br><span class="small muted">${day(line.period.start)} to ${day(line.period.end)}</span>`}</dt><dd>${money(line.amount, line.currency)}</dd>`,
)}
${sums(invoice).map(([name, amount], at) => html`<dt${at === 0 ? html` class="total"` : null}>${name}</dt><dd${at === 0 ? html` class="total"` : null}>${money(amount, invoice.currency)}</dd>`)}
</dl>
<p class="small no-print"><a href="/i/${invoice.id ?? ''}/pdf">Download as PDF</a></p>
<p class="id">${invoice.id ?? ''}</p>
</section>`;
}

/** The sums under the lines; balance and remainder only where they say something. */
function sums(invoice: Stripe.Invoice): readonly [string, number][] {
  const { total, starting_balance, ending_balance, amount_paid, amount_remaining } = invoice;
  // Not before it is final: until then it is only the balance of the customer.
  const applied = ending_balance === null ? 0 : starting_balance - ending_balance;
  const name = applied < 0 ? 'From credit' : total < 0 ? 'To credit' : 'Owed from before';
  const rows: readonly [string, number][] = [
    [name, applied],
    ['Paid', amount_paid],
    ['Due', amount_remaining],
  ];
  return [['Total', total], ...rows.filter(([, amount]) => amount !== 0)];
}

/** The invoice as lines of plain text, for the PDF. */
export function invoiceLinesAsText(invoice: Stripe.Invoice): readonly string[] {
  const row = (name: string, amount: number): string =>
    `${name.slice(0, 58).padEnd(60)}${money(amount, invoice.currency).padStart(16)}`;
  return [
    `Invoice ${invoice.number ?? ''}`,
    'Driftstack local Stripe: test money, this machine only',
    '',
    `Billed to  ${invoice.customer_email ?? invoice.customer_name ?? 'unknown'}`,
    `Issued     ${day(invoice.status_transitions.finalized_at ?? invoice.created)}`,
    `Status     ${invoice.status ?? 'draft'}`,
    '',
    ...invoice.lines.data.flatMap((line) => [
      row(line.description ?? 'Item', line.amount),
      `  ${day(line.period.start)} to ${day(line.period.end)}`,
    ]),
    '',
    ...sums(invoice).map(([name, amount]) => row(name, amount)),
    '',
    invoice.id ?? '',
  ];
}
