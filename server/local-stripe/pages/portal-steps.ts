import { money } from '../money.ts';
import type { PlanChangePreview } from '../portal/actions.ts';
import type { PortalPlan } from '../portal/plans.ts';
import type { PortalView } from '../portal/view.ts';
import { type Html, html } from './html.ts';
import { alert, hiddenField, page, problemPage } from './layout.ts';
import { type FieldErrors, methodFields, offered, type TypedMethod } from './payment-form.ts';
import { backLink, planPrice } from './portal-view.ts';
import { testMethods } from './test-methods.ts';
import { day, howOften } from './words.ts';

/** The plans on offer, one to be chosen. */
export function plansPage(view: PortalView, visit: string): string {
  const rhythms = [...new Set(view.plans.map((plan) => howOften(plan.price)))];
  return step(view, visit, {
    title: 'Change plan',
    wide: true,
    body: html`<h1>Change plan</h1>
${
  view.plans.length === 0
    ? html`<p>No other plan is on offer.</p>`
    : html`<form method="get" action="/p/visit/${visit}/plan" class="stack">
<div class="columns even">${rhythms.map(
        (rhythm) => html`<fieldset class="choices"><legend>Billed ${rhythm}</legend>
${view.plans.filter((plan) => howOften(plan.price) === rhythm).map(planChoice)}</fieldset>`,
      )}</div>
<p class="small muted">An upgrade takes effect at once; what is left of the present period is credited. A downgrade waits until the period ends.</p>
<button class="main">Continue</button></form>`
}`,
  });
}

function planChoice(plan: PortalPlan): Html {
  const current = plan.direction === 'current';
  return html`<label class="choice"><input type="radio" name="price" value="${plan.price.id}" required${current ? html` disabled` : null}><span><b>${plan.name}</b> ${current ? html`<span class="tag">your plan</span>` : null}<br><span class="small muted">${planPrice(plan)}${current ? '' : `, ${plan.direction}`}</span></span></label>`;
}

/** What a change means in money and time, to be confirmed. `refusal` says why a first try did not work. */
export function confirmPlanPage(
  view: PortalView,
  visit: string,
  priceId: string,
  preview: PlanChangePreview,
  refusal: string | null,
): string {
  const plan = view.plans.find((one) => one.price.id === priceId) ?? view.currentPlan;
  return step(view, visit, {
    title: 'Confirm the change',
    body: html`<h1>Change to ${plan?.name ?? 'this plan'}?</h1>
${alert(refusal)}
<p>${plan ? planPrice(plan) : null}, instead of ${view.currentPlan ? `${view.currentPlan.name} for ${planPrice(view.currentPlan)}` : 'nothing'}.</p>
${meaning(preview)}
${refusal === null ? null : html`<p><a href="/p/visit/${visit}/payment-method">Add another payment method</a></p>`}
<form method="post" action="/p/visit/${visit}/plan" class="row" data-once>${hiddenField('price', priceId)}
<button class="main" id="confirm" data-busy="Changing…"${preview.when === 'unchanged' ? html` disabled` : null}>${preview.when === 'now' && preview.dueNowCents > 0 ? `Pay ${money(preview.dueNowCents, preview.currency)} and change` : 'Confirm'}</button>
<a class="button" href="/p/visit/${visit}/plans">Choose another</a></form>`,
  });
}

function meaning(preview: PlanChangePreview): Html {
  switch (preview.when) {
    case 'unchanged':
      return html`<p class="hint">This is the plan you have.</p>`;
    case 'period_end':
      return html`<p class="hint">Nothing is charged today. The change takes effect on <b>${day(preview.takesEffectAt)}</b>, when the period ends; it can be undone until then.</p>`;
    case 'now':
      return html`<dl class="sums">${preview.lines.map((line) => html`<dt>${line.description}</dt><dd>${money(line.amountCents, preview.currency)}</dd>`)}
<dt class="total">${preview.dueNowCents < 0 ? 'Credited for later' : 'Charged today'}</dt><dd class="total" id="due">${money(Math.abs(preview.dueNowCents), preview.currency)}</dd></dl>`;
  }
}

/** Asks once more before cancelling, with what it means. */
export function cancelPage(view: PortalView, visit: string): string {
  const atOnce = view.configuration.features.subscription_cancel.mode === 'immediately';
  const until = view.subscription?.items.data[0]?.current_period_end;
  return step(view, visit, {
    title: 'Cancel subscription',
    body: html`<h1>Cancel your subscription?</h1>
<p>${
      atOnce || until === undefined
        ? 'It ends at once.'
        : html`You keep ${view.currentPlan?.name ?? 'your plan'} until <b>${day(until)}</b>. Until then you can change your mind.`
    }</p>
<form method="post" class="row" data-once><button class="danger" id="cancel" data-busy="Cancelling…">Cancel subscription</button>
<a class="button" href="/p/visit/${visit}">Keep it</a></form>`,
  });
}

/** Adds a payment method, which then is the default. */
export function methodPage(
  view: PortalView,
  visit: string,
  attempt: { typed: TypedMethod; errors: FieldErrors; message: string | null },
): string {
  // Named, because this page is also what a refusal at the bank's address answers.
  const address = `/p/visit/${visit}/payment-method`;
  const allowed = offered(['card', 'sepa_debit', 'us_bank_account'], view.subscription?.currency ?? null);
  return page({
    title: 'Add a payment method',
    part: 'portal',
    scripts: ['checkout.js', 'form.js'],
    back: backLink(view),
    body: html`${returnLink(visit)}<div class="columns">
<div class="card"><h1>Add a payment method</h1><p class="muted">It is used for everything from now on.</p>${testMethods(allowed, attempt.typed, 'keeping', address)}</div>
<form method="post" action="${address}" class="card" data-once data-pay>
<h2>Payment method</h2>
${alert(attempt.message)}
${methodFields(allowed, attempt.typed, attempt.errors)}
<button class="main wide" id="save" data-busy="Saving…">Save</button>
</form></div>`,
  });
}

/** A portal link that was used before, or is older than five minutes, or a visit that is over. */
export function linkGonePage(why: string): string {
  return problemPage(
    'Please open the portal again',
    why,
    html`<p>Each link works once and for five minutes. Go back to the application and choose “Manage subscription” there: every click makes a fresh link.</p>
<p class="small muted">For the developer: do not keep the address. Ask for a new portal session at each click, for example with <code>POST /v1/billing/portal-session</code>.</p>`,
  );
}

function step(
  view: PortalView,
  visit: string,
  content: { title: string; body: Html; wide?: boolean },
): string {
  return page({
    title: content.title,
    part: 'portal',
    scripts: ['form.js'],
    back: backLink(view),
    body: html`${returnLink(visit)}<section class="card ${content.wide ? '' : 'narrow'}">${content.body}</section>`,
  });
}

const returnLink = (visit: string): Html =>
  html`<p class="crumb"><a href="/p/visit/${visit}">← Your subscription</a></p>`;
