import type Stripe from 'stripe';
import { type Delivery, listDeliveries } from '../delivery-log.ts';
import type { World } from '../world.ts';
import { type Bar, barChart } from './chart.ts';
import { tag } from './console-product.ts';
import { first } from './console-stripe.ts';
import { type Html, html } from './html.ts';
import { hiddenField, stamp } from './layout.ts';
import { count, timeOfDay, words } from './words.ts';

const SHOWN = 30;
const DELIVERIES_READ = 300;
const MINUTES = 30;

/** Panel with Stripe's events, newest first, and what became of their deliveries. `nowMs` is real time. */
export function eventsPanel(world: World, nowMs: number): Html {
  const events = first(world.newestFirst('event'), SHOWN);
  const more = world.store.count('event') - events.length;
  const deliveries = listDeliveries(world, { limit: DELIVERIES_READ });
  const byEvent = Map.groupBy(deliveries, (delivery) => delivery.event);
  return html`<section class="panel" aria-labelledby="events-title">
<h2 id="events-title">Events and deliveries</h2>
<div id="events-chart" data-live>${chart(deliveries, nowMs)}</div>
<div id="events" data-live>${
    events.length === 0
      ? html`<p class="muted">No event yet.</p>`
      : html`<div class="scroll" id="events-scroll" data-scroll tabindex="0"><ul class="log">${events.map((event) => entry(world, event, byEvent.get(event.id) ?? []))}</ul></div>${more > 0 ? html`<p class="muted">and ${more} older ones</p>` : null}`
  }</div></section>`;
}

/** Tries of deliveries per minute of real time, arrived and failed. */
function chart(deliveries: readonly Delivery[], nowMs: number): Html {
  const lastMinute = Math.floor(nowMs / 60_000);
  const bars: Bar[] = Array.from({ length: MINUTES }, (_, at) => {
    const minute = lastMinute - MINUTES + 1 + at;
    const tries = deliveries
      .flatMap(({ tries }) => tries)
      .filter((one) => Math.floor(one.at / 60) === minute);
    const good = tries.filter((one) => isGood(one.status)).length;
    return { label: timeOfDay(minute * 60).slice(0, 5), good, bad: tries.length - good, rest: 0 };
  });
  return html`${barChart('Deliveries per minute in the last half hour', bars)}
<p class="small"><span class="key good">arrived</span> <span class="key bad">failed</span> <span class="muted">tries per minute, real time</span></p>`;
}

function entry(world: World, event: Stripe.Event, deliveries: readonly Delivery[]): Html {
  return html`<li>${stamp(event.created)}<div class="what"><b>${event.type}</b> <span class="id">${event.id}</span>
${deliveries.map((delivery) => deliveryRow(world, delivery))}</div></li>`;
}

function deliveryRow(world: World, delivery: Delivery): Html {
  const last = delivery.tries.at(-1);
  const url = world.find('webhook_endpoint', delivery.endpoint)?.url ?? 'a deleted endpoint';
  return html`<div class="row delivery"><span>${tag(delivery.status)} ${last ? `${last.status ?? last.error ?? 'no answer'}, ${last.durationMs} ms` : ''}${delivery.tries.length > 1 ? `, ${count(delivery.tries.length, 'try').replace('trys', 'tries')}` : ''}${delivery.fault === null ? null : html` <span class="tag warn">${words(delivery.fault)}</span>`}</span>
<form method="post" action="/console/resend" data-quiet data-done="Sent again.">${hiddenField('delivery', delivery.id)}<button class="plain" id="resend-${delivery.id}" title="to ${url}">Resend<span class="hidden"> ${delivery.type}</span></button></form></div>`;
}

const isGood = (status: number | null): boolean => status !== null && status >= 200 && status < 300;
