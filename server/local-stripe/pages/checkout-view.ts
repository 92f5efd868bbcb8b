import type Stripe from 'stripe';
import { money } from '../money.ts';
import { type Html, html } from './html.ts';
import { alert, page, problemPage } from './layout.ts';
import {
  aria,
  type FieldErrors,
  labelled,
  methodFields,
  NOTHING_TYPED,
  offered,
  type TypedMethod,
} from './payment-form.ts';
import { testMethods } from './test-methods.ts';
import { day, howOften } from './words.ts';

/** Everything the Checkout page shows about what is bought. */
export interface Order {
  readonly session: Stripe.Checkout.Session;
  readonly lines: readonly {
    readonly name: string;
    readonly quantity: number;
    readonly price: Stripe.Price;
  }[];
  /** Whose order it is, when Stripe knows an address; it can then not be changed here. */
  readonly knownEmail: string | null;
  /** Unix seconds of the end of a free trial, or null. */
  readonly trialEnd: number | null;
  /** Unix seconds of the next charge, or null for a single purchase. */
  readonly nextChargeAt: number | null;
}

export interface Attempt {
  readonly email: string;
  readonly typed: TypedMethod;
  readonly errors: FieldErrors;
  /** Why the last attempt did not succeed. */
  readonly message: string | null;
}

export const FIRST_ATTEMPT: Attempt = { email: '', typed: NOTHING_TYPED, errors: {}, message: null };

/** The hosted Checkout page of an open session. */
export function checkoutPage(order: Order, attempt: Attempt): string {
  const { session } = order;
  const allowed = offered(session.payment_method_types, session.currency);
  const total = session.amount_total ?? 0;
  const currency = session.currency ?? 'usd';
  // Named, because this page is also what a refusal at the bank's address answers.
  const address = `/c/pay/${session.id}`;
  const label = total > 0 ? `Pay ${money(total, currency)}` : 'Start without paying now';
  return page({
    title: 'Checkout',
    part: 'checkout',
    scripts: ['checkout.js', 'form.js'],
    back: backLink(session),
    body: html`<div class="columns">
<div class="stack">
${summary(order)}
<div class="card">${testMethods(allowed, attempt.typed, total > 0 ? 'paying' : 'keeping', address)}</div>
</div>
<form method="post" action="${address}" class="card" data-once data-pay>
<h2>Payment</h2>
${alert(attempt.message)}
${emailField(order, attempt)}
${methodFields(allowed, attempt.typed, attempt.errors)}
<button class="main wide" id="pay" data-busy="Paying…">${label}</button>
<p class="small muted">${afterwards(order)}</p>
</form>
</div>`,
  });
}

function summary(order: Order): Html {
  const { session, lines, trialEnd, nextChargeAt } = order;
  const currency = session.currency ?? 'usd';
  const total = money(session.amount_total ?? 0, currency);
  const recurring = lines.find((line) => line.price.recurring)?.price;
  return html`<section class="card" aria-labelledby="order">
<h1 id="order">${recurring ? 'Subscribe' : 'Buy'}${lines.length === 1 ? ` ${recurring ? 'to ' : ''}${lines[0]?.name ?? ''}` : ''}</h1>
<p class="price">${money(
    lines.reduce((sum, line) => sum + (line.price.unit_amount ?? 0) * line.quantity, 0),
    currency,
  )}${recurring ? html` <span class="small muted">${howOften(recurring)}</span>` : null}</p>
<dl class="sums">
${lines.map(
  (
    line,
  ) => html`<dt>${line.name}${line.quantity === 1 ? null : ` × ${line.quantity}`}<br><span class="small muted">${line.price.recurring ? `billed ${howOften(line.price)}` : 'one-time charge'}</span></dt>
<dd>${money((line.price.unit_amount ?? 0) * line.quantity, line.price.currency)}</dd>`,
)}
<dt class="total">Charged today</dt><dd class="total">${total}</dd>
${nextChargeAt === null ? null : html`<dt>${trialEnd === null ? 'Next charge' : 'First charge, after the free trial'}</dt><dd>${day(nextChargeAt)}</dd>`}
</dl>
${session.client_reference_id === null ? null : html`<p class="small muted">Reference <span class="id">${session.client_reference_id}</span></p>`}
</section>`;
}

function emailField(order: Order, attempt: Attempt): Html {
  if (order.knownEmail !== null)
    return html`<div class="field"><label for="email">E-mail</label><input id="email" name="email" type="email" value="${order.knownEmail}" readonly></div>`;
  return labelled(
    'email',
    'E-mail',
    attempt.errors,
    html`<input id="email" name="email" type="email" value="${attempt.email}" autocomplete="email" required maxlength="254"${aria('email', attempt.errors)}>`,
  );
}

function afterwards({ session, nextChargeAt }: Order): string {
  if (nextChargeAt === null) return 'A single charge; nothing renews.';
  const total = money(session.amount_total ?? 0, session.currency ?? 'usd');
  return `${total} today, next on ${day(nextChargeAt)}, until cancelled.`;
}

/** The page of a session that was paid before: paying again is not possible, going back is. */
export function completePage(session: Stripe.Checkout.Session, successUrl: string | null): string {
  const pending = session.payment_status === 'unpaid';
  return page({
    title: pending ? 'Payment on its way' : 'Already paid',
    part: 'checkout',
    body: html`<section class="card narrow">
<h1>${pending ? 'Your payment is on its way' : 'This is already paid'}</h1>
<p>${
      pending
        ? 'The order is placed. The bank confirms the payment later; there is nothing more to do here.'
        : 'The order is complete and was charged once. Paying again is not possible with this link.'
    }</p>
${successUrl === null ? null : html`<p><a class="button main" href="${successUrl}" rel="noreferrer">Continue to the application</a></p>`}
<p class="small muted">Session <span class="id">${session.id}</span></p>
</section>`,
  });
}

/** The page of a session that can no longer be paid. */
export function expiredPage(session: Stripe.Checkout.Session): string {
  return problemPage(
    'This checkout has expired',
    'Nothing was charged. Go back to the application and start again; it will make a fresh link.',
    session.cancel_url === null
      ? null
      : html`<p><a class="button main" href="${session.cancel_url}" rel="noreferrer">Back to the application</a></p>`,
  );
}

const backLink = (session: Stripe.Checkout.Session): { href: string; label: string } | null =>
  session.cancel_url === null ? null : { href: session.cancel_url, label: '← Back, without paying' };
