import type Stripe from 'stripe';
import { money } from '../money.ts';
import { mayChangeEmail } from '../portal/address.ts';
import type { PortalPlan } from '../portal/plans.ts';
import type { PortalView } from '../portal/view.ts';
import { tag } from './console-product.ts';
import { methodName } from './console-stripe.ts';
import { type Html, html } from './html.ts';
import { alert, hiddenField, notice, page } from './layout.ts';
import { day, howOften } from './words.ts';

const DONE = {
  changed: 'Your plan was changed.',
  scheduled: 'The change is booked for the end of the period.',
  canceled: 'Your subscription was cancelled.',
  kept: 'The cancellation was undone.',
  stays: 'You stay on your present plan.',
  method: 'This payment method is used from now on.',
  email: 'Your e-mail address was changed.',
} as const;

const REFUSED = 'The payment did not go through. The open invoice below can be paid with another card.';
const WRONG = {
  refused: REFUSED,
  no_email: 'That is no e-mail address. Nothing was changed.',
} as const;
type Wrong = keyof typeof WRONG;
type Done = keyof typeof DONE | Wrong;

const isWrong = (name: string): name is Wrong => Object.hasOwn(WRONG, name);

export const isDone = (name: string): name is Done => isWrong(name) || Object.hasOwn(DONE, name);

/** The portal's first page: plan, payment methods, invoices. `done` says what was just done. */
export function overviewPage(view: PortalView, visit: string, done: Done | null, now: number): string {
  return page({
    title: 'Your subscription',
    part: 'portal',
    scripts: ['form.js'],
    back: backLink(view),
    body: html`<div class="stack">
<div><h1>Your subscription</h1><p class="muted">${view.customer.email ?? view.customer.name ?? view.customer.id}</p></div>
${done !== null && isWrong(done) ? alert(WRONG[done]) : notice(done === null ? null : DONE[done])}
<div class="columns">
${planCard(view, visit, now)}
<div class="stack">${methodsCard(view, visit)}${addressCard(view, visit)}${invoicesCard(view)}</div>
</div></div>`,
  });
}

/** The way back to the application, where one was given. */
export function backLink({ session }: PortalView): { href: string; label: string } | null {
  return session.return_url === null
    ? null
    : { href: session.return_url, label: '← Back to the application' };
}

/** `$99.00 every month`. */
export function planPrice(plan: PortalPlan): string {
  return `${money(plan.amountCents, plan.currency)} ${howOften(plan.price)}`;
}

/** What the end of the period brings, where it is certain. */
function turn({ status, pause_collection: paused }: Stripe.Subscription): string {
  if (status === 'trialing') return 'Trial until';
  return status === 'active' && !paused ? 'Renews on' : 'Period until';
}

function planCard(view: PortalView, visit: string, now: number): Html {
  const { subscription, currentPlan, cancelsAt, pendingChange, configuration } = view;
  if (!subscription || !currentPlan)
    return html`<section class="card" aria-labelledby="plan"><h2 id="plan">Plan</h2><p>You have no subscription at the moment.</p></section>`;
  const until = subscription.items.data[0]?.current_period_end ?? now;
  const open = view.invoices.find((invoice) => invoice.status === 'open');
  return html`<section class="card" aria-labelledby="plan">
<div class="row spread"><h2 id="plan">Plan</h2>${tag(subscription.status)}</div>
<p><b>${currentPlan.name}</b></p>
<p class="price">${money(currentPlan.amountCents, currentPlan.currency)} <span class="small muted">${howOften(currentPlan.price)}</span></p>
${
  open?.hosted_invoice_url
    ? html`<p class="hint">An invoice of ${money(open.amount_remaining, open.currency)} is not paid yet. <a href="${open.hosted_invoice_url}">Pay it now</a></p>`
    : null
}
${cancelsAt === null ? html`<p>${turn(subscription)} <b>${day(until)}</b>.</p>` : html`<p class="hint">Ends on <b>${day(cancelsAt)}</b>.</p>`}
${
  pendingChange
    ? html`<p class="hint">Changes to <b>${pendingChange.plan.name}</b> (${planPrice(pendingChange.plan)}) on <b>${day(pendingChange.at)}</b>.</p>
<form method="post" action="/p/visit/${visit}/plan" data-once>${hiddenField('price', currentPlan.price.id)}<button id="undo-change" data-busy="Undoing…">Stay on ${currentPlan.name}</button></form>`
    : null
}
<div class="row">
${cancelsAt === null && configuration.features.subscription_update.enabled ? html`<a class="button main" href="/p/visit/${visit}/plans">Change plan</a>` : null}
${
  cancelsAt === null
    ? configuration.features.subscription_cancel.enabled
      ? html`<a class="button" href="/p/visit/${visit}/cancel">Cancel subscription</a>`
      : null
    : html`<form method="post" action="/p/visit/${visit}/keep" data-once><button class="main" data-busy="Keeping…">Keep my subscription</button></form>`
}
</div></section>`;
}

function methodsCard(view: PortalView, visit: string): Html {
  const { paymentMethods, defaultPaymentMethod } = view;
  return html`<section class="card" aria-labelledby="methods"><h2 id="methods">Payment methods</h2>
${
  paymentMethods.length === 0
    ? html`<p class="muted">None yet.</p>`
    : html`<ul class="list">${paymentMethods.map((method) => methodRow(method, method.id === defaultPaymentMethod, visit))}</ul>`
}
<p><a class="button" href="/p/visit/${visit}/payment-method">Add a payment method</a></p></section>`;
}

function addressCard({ configuration, customer }: PortalView, visit: string): Html | null {
  if (!mayChangeEmail(configuration)) return null;
  return html`<section class="card" aria-labelledby="billing"><h2 id="billing">Billing information</h2>
<form class="stack" method="post" action="/p/visit/${visit}/email" data-once>
<div class="field"><label for="email">E-mail</label><input id="email" name="email" type="email" autocomplete="email" value="${customer.email ?? ''}" required></div>
<button class="plain" data-busy="Saving…">Save</button></form></section>`;
}

function methodRow(method: Stripe.PaymentMethod, isDefault: boolean, visit: string): Html {
  const name = methodName(method);
  return html`<li class="row spread"><span>${name}${method.card ? html` <span class="small muted">until ${method.card.exp_month} / ${method.card.exp_year}</span>` : null}</span>
${
  isDefault
    ? html`<span class="tag good">default</span>`
    : html`<form method="post" action="/p/visit/${visit}/payment-method" data-once>${hiddenField('payment_method', method.id)}<button class="plain" data-busy="…">Make default<span class="hidden"> ${name}</span></button></form>`
}</li>`;
}

function invoicesCard(view: PortalView): Html | null {
  if (!view.configuration.features.invoice_history.enabled) return null;
  return html`<section class="card" aria-labelledby="invoices"><h2 id="invoices">Invoices</h2>
${
  view.invoices.length === 0
    ? html`<p class="muted">None yet.</p>`
    : html`<ul class="list">${view.invoices.map(
        (
          invoice,
        ) => html`<li class="row spread"><span>${day(invoice.created)}<br><b>${money(invoice.total, invoice.currency)}</b> ${tag(invoice.status ?? 'draft')}</span>
<span class="row">${
          invoice.hosted_invoice_url
            ? html`<a href="${invoice.hosted_invoice_url}" target="_blank" rel="noopener">${invoice.status === 'open' ? 'Pay' : 'View'} <span class="hidden">invoice ${invoice.number ?? ''} (new tab)</span></a>`
            : null
        }${invoice.invoice_pdf ? html`<a href="${invoice.invoice_pdf}">PDF<span class="hidden"> of invoice ${invoice.number ?? ''}</span></a>` : null}</span></li>`,
      )}</ul>`
}</section>`;
}
