import type Stripe from 'stripe';
import { idOf } from '../billing/customers.ts';
import { productName } from '../billing/prices.ts';
import { listMails } from '../mails.ts';
import { money } from '../money.ts';
import type { World } from '../world.ts';
import { tag } from './console-product.ts';
import { type Html, html } from './html.ts';
import { hiddenField, stamp } from './layout.ts';
import { moment, priceInWords, words } from './words.ts';

const CUSTOMERS = 12;
const PER_CUSTOMER = 5;

/** Panel with what Stripe holds, by customer, the newest first. */
export function customersPanel(world: World): Html {
  const customers = first(world.newestFirst('customer'), CUSTOMERS);
  const more = world.store.count('customer') - customers.length;
  return html`<section class="panel" aria-labelledby="customers-title">
<h2 id="customers-title">Objects in Stripe, by customer</h2>
<div id="customers" data-live>${
    customers.length === 0
      ? html`<p class="muted">No customer yet.</p>`
      : html`<div class="scroll" id="customers-scroll" data-scroll tabindex="0">${customers.map(
          (customer, at) =>
            customer.deleted ? deletedEntry(customer) : customerEntry(world, customer, at === 0),
        )}${more > 0 ? html`<p class="muted">and ${more} older ones</p>` : null}</div>`
  }</div></section>`;
}

/** Panel with the newest mails; the mailbox has them all. */
export function mailsPanel(world: World): Html {
  const mails = listMails(world);
  return html`<section class="panel" aria-labelledby="mails-title">
<h2 id="mails-title">Mails</h2>
<div id="mails-panel" data-live>${
    mails.length === 0
      ? html`<p class="muted">None yet.</p>`
      : html`<ul class="log">${mails
          .slice(0, 8)
          .map(
            (mail) =>
              html`<li>${stamp(mail.createdAt)}<div class="what"><a href="/mailbox/${mail.id}">${mail.subject}</a><br><span class="id">${mail.to.join(', ')}</span></div></li>`,
          )}</ul>`
  }</div><p><a href="/mailbox">Open the mailbox</a></p></section>`;
}

/** The first few of a sequence. */
export function first<T>(values: Iterable<T>, limit: number): readonly T[] {
  const found: T[] = [];
  for (const value of values) {
    if (found.length === limit) break;
    found.push(value);
  }
  return found;
}

const deletedEntry = (customer: Stripe.DeletedCustomer): Html =>
  html`<p><span class="id">${customer.id}</span> <span class="tag bad">deleted</span></p>`;

function customerEntry(world: World, customer: Stripe.Customer, open: boolean): Html {
  const subscriptions = newest(world.ofCustomer('subscription', customer.id));
  const invoices = newest(world.ofCustomer('invoice', customer.id));
  const sessions = newest(world.ofCustomer('checkout.session', customer.id));
  const methods = newest(world.ofCustomer('payment_method', customer.id));
  const intents = newest(world.ofCustomer('payment_intent', customer.id));
  return html`<details id="customer-${customer.id}"${open ? html` open` : null}>
<summary><b>${customer.email ?? customer.name ?? 'no e-mail'}</b> ${subscriptions[0] ? tag(subscriptions[0].status) : null}<br><span class="id">${customer.id}</span></summary>
${group(
  'Subscriptions',
  subscriptions.map(
    (sub) =>
      html`${tag(sub.status)}${endsAt(sub)}${sub.schedule === null ? null : html` <span class="tag warn">change booked</span>`}${sub.items.data.map((item) => html`<br>${productName(world, item.price)}, ${priceInWords(item.price, item.quantity ?? 1)}, until ${moment(item.current_period_end).slice(0, 10)}`)}<br><span class="id">${sub.id}</span>`,
  ),
)}
${group(
  'Invoices',
  invoices.map(
    (invoice) =>
      html`${tag(invoice.status ?? 'draft')} ${money(invoice.total, invoice.currency)}, ${words(invoice.billing_reason ?? 'manual').replace('subscription ', '')} ${invoice.hosted_invoice_url ? html`<a href="${invoice.hosted_invoice_url}">open</a>` : null}<br><span class="id">${invoice.id ?? ''}</span>`,
  ),
)}
${group(
  'Payments',
  intents.map(
    (intent) =>
      html`${tag(intent.status)} ${money(intent.amount, intent.currency)}<br><span class="id">${intent.id}</span>`,
  ),
)}
${group(
  'Checkout sessions',
  sessions.map(
    (session) =>
      html`${tag(session.status ?? 'open')} ${session.mode} ${session.status === 'open' && session.url ? html`<a href="${session.url}">pay</a>` : null}<br><span class="id">${session.id.slice(0, 24)}…</span>`,
  ),
)}
${group(
  'Payment methods',
  methods.map(
    (method) =>
      html`${methodName(method)}${idOf(customer.invoice_settings.default_payment_method) === method.id ? html` <span class="tag">default</span>` : null}<br><span class="id">${method.id}</span>`,
  ),
)}
<form method="post" action="/console/fail-next-payment" data-quiet data-done="Its next payment will fail." class="row">
${hiddenField('customer', customer.id)}<button class="plain" id="fail-${customer.id}">Fail the next payment</button>
${world.hidden.get('decline_next', customer.id) === undefined ? null : html`<span class="tag warn">the next one will fail</span>`}</form>
</details>`;
}

/** `Visa •••• 4242` or `SEPA •••• 3000`. */
export function methodName(method: Stripe.PaymentMethod): string {
  if (method.card) return `${brandName(method.card.brand)} •••• ${method.card.last4}`;
  if (method.us_bank_account) return `US bank account •••• ${method.us_bank_account.last4 ?? ''}`;
  if (method.sepa_debit) return `SEPA debit •••• ${method.sepa_debit.last4 ?? ''}`;
  return words(method.type);
}

const brandName = (brand: string): string => brand.charAt(0).toUpperCase() + brand.slice(1);

function endsAt(sub: Stripe.Subscription): Html | null {
  if (sub.cancel_at !== null && sub.status !== 'canceled')
    return html` <span class="tag warn">ends ${moment(sub.cancel_at).slice(0, 10)}</span>`;
  return sub.cancel_at_period_end && sub.status !== 'canceled'
    ? html` <span class="tag warn">ends with the period</span>`
    : null;
}

function group(title: string, entries: readonly Html[]): Html | null {
  if (entries.length === 0) return null;
  return html`<h3>${title}</h3><ul class="list">${entries.map((entry) => html`<li>${entry}</li>`)}</ul>`;
}

/** `ofCustomer` lists the oldest first; people look for the newest. */
const newest = <T>(oldestFirst: readonly T[]): readonly T[] => oldestFirst.slice(-PER_CUSTOMER).reverse();
