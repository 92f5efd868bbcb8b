import { type Html, html } from './html.ts';
import { stamp } from './layout.ts';
import type { ProductAccount, ProductOverview, ProductView, ProductWaiting } from './product.ts';
import { count, words } from './words.ts';

/** Panels with what the product itself believes: its accounts with billing state and audit log, what waits. */
export function productPanels(view: ProductView): Html {
  return html`<section class="panel" aria-labelledby="accounts-title">
<h2 id="accounts-title">Accounts in the product</h2>
<div id="accounts" data-live>${accounts(view)}</div>
</section>
<section class="panel" aria-labelledby="work-title">
<h2 id="work-title">Work and intake in the product</h2>
<div id="work" data-live>${view.state === 'ok' ? work(view.overview) : html`<p class="muted">Known once the product answers.</p>`}</div>
</section>`;
}

/** The colour of a state: of a subscription, a job, a delivery, an invoice or a mail. */
export function tag(state: string): Html {
  return html`<span class="tag ${TONES[state] ?? ''}">${words(state)}</span>`;
}

const TONES: Record<string, 'good' | 'warn' | 'bad'> = {
  active: 'good',
  trialing: 'good',
  paid: 'good',
  succeeded: 'good',
  delivered: 'good',
  complete: 'good',
  completed: 'good',
  done: 'good',
  sent: 'good',
  past_due: 'warn',
  open: 'warn',
  pending: 'warn',
  retry: 'warn',
  retrying: 'warn',
  processing: 'warn',
  received: 'warn',
  paused: 'warn',
  incomplete: 'warn',
  requires_action: 'warn',
  requires_payment_method: 'warn',
  unpaid: 'bad',
  canceled: 'bad',
  failed: 'bad',
  dropped: 'bad',
  dead: 'bad',
  parked: 'bad',
  void: 'bad',
  uncollectible: 'bad',
  incomplete_expired: 'bad',
};

function accounts(view: ProductView): Html {
  switch (view.state) {
    case 'none':
      return html`<p class="muted">The local Stripe runs alone. Started together with the product, its accounts, audit log and work show here.</p>`;
    case 'unreachable':
      return html`<p class="hint">The product does not answer. ${view.why}</p>`;
    case 'ok':
      return view.overview.accounts.length === 0
        ? html`<p class="muted">The product has no account yet.</p>`
        : html`<div class="scroll" id="accounts-scroll" data-scroll tabindex="0">${view.overview.accounts.map((account, at) => accountEntry(account, at === 0))}</div>`;
  }
}

function accountEntry(account: ProductAccount, open: boolean): Html {
  const state = account.billing_state;
  const sub = state?.subscription ?? null;
  const { standing } = account;
  return html`<details id="account-${account.account_id}"${open ? html` open` : null}>
<summary><b>${account.email ?? account.account_id}</b> ${sub ? tag(sub.status) : html`<span class="tag">never subscribed</span>`}</summary>
<dl class="facts">
<dt>Account</dt><dd class="id">${account.account_id}</dd>
<dt>Customer</dt><dd class="id">${account.stripe_customer_id ?? 'none yet'}</dd>
${sub ? html`<dt>Plan</dt><dd>${words(sub.tier ?? 'unknown')}, ${sub.billing_period ?? 'unknown'}${standing?.entitled === false ? html` <span class="tag bad">grants nothing</span>` : null}</dd>` : null}
${sub?.current_period_end ? html`<dt>Period until</dt><dd>${short(sub.current_period_end)}</dd>` : null}
${standing?.ends_at ? html`<dt>Ends</dt><dd>${moment(standing.ends_at)} <span class="tag warn">cancels</span></dd>` : null}
${standing?.ended_at ? html`<dt>Ended</dt><dd>${moment(standing.ended_at)}</dd>` : null}
${standing?.booked ? html`<dt>Booked</dt><dd>${standing.booked}</dd>` : null}
${
  state?.trial_pack.redeemed
    ? html`<dt>Trial pack</dt><dd>${state.trial_pack.credit_cents_remaining}¢ left${state.trial_pack.expires_at ? `, until ${short(state.trial_pack.expires_at)}` : ''} ${tag(state.trial_pack.active ? 'active' : 'over')}</dd>`
    : null
}
</dl>
<h3>Audit log</h3>
${
  account.audit.length === 0
    ? html`<p class="muted">Empty.</p>`
    : html`<ul class="log">${account.audit.map(
        (entry) =>
          html`<li>${stamp(entry.timestamp)}<div class="what"><b>${entry.action}</b>${payload(entry.payload)}</div></li>`,
      )}</ul>`
}
${
  account.emails.length === 0
    ? null
    : html`<h3>Mails</h3><ul class="log">${account.emails.map(
        (mail) =>
          html`<li>${stamp(mail.created_at)}<div class="what">${words(mail.template)} ${tag(mail.state)}</div></li>`,
      )}</ul>`
}
</details>`;
}

/** The few members of an audit payload on one line; nested ones as JSON. */
function payload(value: unknown): Html | null {
  if (typeof value !== 'object' || value === null) return null;
  const shown = Object.entries(value).map(
    ([name, member]) => `${name}: ${typeof member === 'string' ? member : JSON.stringify(member)}`,
  );
  return shown.length === 0 ? null : html`<br><span class="id">${shown.join(', ')}</span>`;
}

function work(overview: ProductOverview): Html {
  const failed = overview.events.filter((event) => event.error !== null).length;
  return html`${waitingList(overview.waiting) ?? html`<p class="muted">Nothing waits for work.</p>`}
<h3>Stripe events as received${failed > 0 ? html` <span class="tag bad">${count(failed, 'error')}</span>` : null}</h3>
${
  overview.events.length === 0
    ? html`<p class="muted">None yet.</p>`
    : html`<div class="scroll" id="intake-scroll" data-scroll tabindex="0"><ul class="log">${overview.events.map(
        (event) =>
          html`<li>${stamp(event.received_at)}<div class="what">${event.type} ${tag(event.state)}<br><span class="id">${event.id}</span>${event.error === null ? null : html`<br><span class="error">${event.error}</span>`}</div></li>`,
      )}</ul></div>`
}`;
}

function waitingList(waiting: readonly ProductWaiting[]): Html | null {
  if (waiting.length === 0) return null;
  return html`<h3>Waiting</h3><ul class="log-plain">${waiting.map(({ what, state, count: number }) => html`<li class="row spread"><span>${what}</span><span>${number} × ${tag(state)}</span></li>`)}</ul>`;
}

/** `2026-06-01 14:05`. */
const moment = (timestamp: string): string => timestamp.slice(0, 16).replace('T', ' ');
const short = (timestamp: string): string => timestamp.slice(0, 10);
