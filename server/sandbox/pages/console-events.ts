import type Stripe from 'stripe';
import type { World } from '../world.ts';
import { type Bar, barChart } from './chart.ts';
import { first } from './console-stripe.ts';
import { type Html, html } from './html.ts';
import { moment, timeOfDay } from './words.ts';

const SHOWN = 30;

/** Panel with Stripe's events, newest first, and what became of their deliveries. */
export function eventsPanel(world: World): Html {
  const events = first(world.newestFirst('event'), SHOWN);
  const total = world.store.count('event');
  return html`<section class="panel" aria-labelledby="events-title">
<h2 id="events-title">Events and deliveries</h2>
<div id="events" data-live>
${
  events.length === 0
    ? html`<p class="muted">No event yet.</p>`
    : html`<div class="scroll" id="events-scroll" data-scroll tabindex="0"><ul class="log">${events.map((event) => entry(event))}</ul></div>${
        total > events.length ? html`<p class="muted">and ${total - events.length} older ones</p>` : null
      }`
}</div></section>`;
}

function entry(event: Stripe.Event): Html {
  return html`<li><time datetime="${moment(event.created)}Z">${timeOfDay(event.created)}</time><div class="what"><b>${event.type}</b><br><span class="id">${event.id}</span></div></li>`;
}

export type { Bar };
export { barChart };
