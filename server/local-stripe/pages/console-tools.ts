import type Stripe from 'stripe';
import { boundary, type Recurrence } from '../billing/periods.ts';
import type { ClockMover, Move } from '../move-clock.ts';
import { advanceTestClock } from '../test-clocks.ts';
import type { World } from '../world.ts';
import { type Html, html } from './html.ts';
import { hiddenField } from './layout.ts';
import { count, moment, words } from './words.ts';

const STEPS = {
  hour: { label: '1 hour', hours: 1 },
  day: { label: '1 day', recurrence: { interval: 'day', count: 1 } },
  week: { label: '7 days', recurrence: { interval: 'week', count: 1 } },
  month: { label: '1 month', recurrence: { interval: 'month', count: 1 } },
  year: { label: '1 year', recurrence: { interval: 'year', count: 1 } },
} as const satisfies Record<string, { label: string; hours?: number; recurrence?: Recurrence }>;
type Step = keyof typeof STEPS;

export const isStep = (name: string): name is Step => Object.hasOwn(STEPS, name);

/**
 * Sets the local Stripe's clock moving, or a test clock (`testClock`, '' for its own); a second step adds to the
 * first. Throws Stripe's refusal for a test clock that does not exist or is still under way.
 */
export function advanceClock(
  { world, mover }: { world: World; mover: ClockMover },
  step: Step,
  testClock: string,
): void {
  const chosen = STEPS[step];
  const from = testClock === '' ? (mover.target() ?? world.now()) : world.now(testClock);
  const to = 'hours' in chosen ? from + chosen.hours * 3600 : boundary(from, chosen.recurrence, 1);
  if (testClock === '') void mover.move(to);
  else world.atomically(() => advanceTestClock(world, testClock, to));
}

/** Panel with the clock and the buttons that move it. */
export function clockPanel(world: World, mover: ClockMover, besideProduct: boolean): Html {
  const offsetSeconds = world.aheadSeconds();
  const clocks = [...world.newestFirst('test_helpers.test_clock')].slice(0, 5);
  return html`<section class="panel" aria-labelledby="clock-title">
<h2 id="clock-title">Clock</h2>
<div id="clock" data-live>
<p class="clock">${moment(world.now())} UTC</p>
<p class="muted">${offsetSeconds === 0 ? 'Runs with real time.' : `${ahead(offsetSeconds)} ahead of real time.`} It only moves forward.</p>
${moved(world, mover.current())}
${clocks.map(testClock)}
</div>
<form method="post" action="/console/clock" data-quiet data-done="On the way." class="row" aria-label="Move the clock ahead">
${Object.entries(STEPS).map(([name, { label }]) => html`<button name="by" value="${name}" id="by-${name}">+ ${label}</button>`)}
</form>
<p class="muted">Renewals, retries, reminders and ends of trials happen on the way, each at its moment${besideProduct ? ', and the product lives in the same time' : ''}.</p>
</section>`;
}

/** How far a move has come, or what came of the last one. */
function moved(world: World, move: Move | null): Html | null {
  if (move === null) return null;
  const { from, to, moments, state, warnings } = move;
  const told = html`${warnings.map((warning) => html`<p class="hint">${warning}.</p>`)}`;
  switch (state) {
    case 'moving':
      return html`<p><label for="clock-progress">On the way to ${moment(to)} UTC, ${count(moments, 'moment')} so far</label><br>
<progress id="clock-progress" max="${to - from}" value="${Math.min(world.now() - from, to - from)}"></progress></p>
<form method="post" action="/console/clock" data-quiet data-done="Stopping." class="row"><button class="plain" name="by" value="stop" id="clock-stop">Stop here</button></form>${told}`;
    case 'done':
      return html`<p class="muted">Moved to ${moment(to)} UTC. ${moments === 0 ? 'Nothing fell due on the way.' : `Something fell due at ${count(moments, 'moment')} on the way.`}</p>${told}`;
    case 'stopped':
      return html`<p class="muted">Stopped on the way to ${moment(to)} UTC.</p>${told}`;
    case 'failed':
      return html`<p class="error">The move to ${moment(to)} UTC broke off.</p>${told}`;
  }
}

function testClock({ id, name, frozen_time: at, status }: Stripe.TestHelpers.TestClock): Html {
  const title = name ?? 'Test clock';
  return html`<p>${title} <span class="id">${id}</span><br>${moment(at)} UTC${status === 'ready' ? '' : `, ${words(status)}`}</p>
<form method="post" action="/console/clock" data-quiet data-done="On the way." class="row" aria-label="Move ${title} ahead">${hiddenField('clock', id)}
<button name="by" value="day" id="${id}-day">+ 1 day</button><button name="by" value="month" id="${id}-month">+ 1 month</button></form>`;
}

/** Panel with a newcomer's first calls, ready to copy. */
export function tryPanel(url: string, productUrl: string | null): Html {
  const lines: [string, string, string][] = [
    ...(productUrl === null
      ? []
      : [
          [
            'try-state',
            'Billing state',
            `curl -s ${productUrl}/v1/billing -H "Authorization: Bearer $KEY"`,
          ] satisfies [string, string, string],
          [
            'try-checkout',
            'Start a subscription',
            `curl -s ${productUrl}/v1/billing/checkout-session -H "Authorization: Bearer $KEY" -H "Content-Type: application/json" -d '{"tier":"api_builder","billing_period":"monthly","success_url":"${url}/app/success?session_id={CHECKOUT_SESSION_ID}","cancel_url":"${url}/app/cancel"}'`,
          ] satisfies [string, string, string],
          [
            'try-portal',
            'Open the portal',
            `curl -s -X POST ${productUrl}/v1/billing/portal-session -H "Authorization: Bearer $KEY" -H "Content-Type: application/json" -d '{}'`,
          ] satisfies [string, string, string],
        ]),
    ['try-customers', 'Customers in Stripe', `curl -s ${url}/v1/customers -u sk_test_local_stripe:`],
    ['try-events', 'Events in Stripe', `curl -s "${url}/v1/events?limit=5" -u sk_test_local_stripe:`],
  ];
  return html`<section class="panel" aria-labelledby="try-title">
<h2 id="try-title">Try it</h2>
${productUrl === null ? html`<p class="muted">Point the stripe package at this server: host <code>127.0.0.1</code>, protocol <code>http</code>, any key like <code>sk_test_local_stripe</code>.</p>` : html`<p class="muted">In the terminal where <code>KEY</code> holds the API key that the start printed (<code>export KEY=ds_live_…</code>):</p>`}
${lines.map(
  ([id, title, line]) =>
    html`<div><div class="row spread"><h3>${title}</h3><button type="button" class="plain" data-copy="${id}">Copy<span class="hidden"> the line: ${title}</span></button></div><pre id="${id}" tabindex="0">${line}</pre></div>`,
)}
</section>`;
}

function ahead(seconds: number): string {
  const days = Math.floor(seconds / 86_400);
  return days > 0 ? count(days, 'day') : count(Math.round(seconds / 3600), 'hour');
}
