import { baseUrl } from '../billing/customers.ts';
import { RECEIVER_MODES, receivedWebhooks } from '../receiver.ts';
import type { World } from '../world.ts';
import { tag } from './console-product.ts';
import { type Html, html } from './html.ts';
import { stamp } from './layout.ts';
import type { ProductEndpoint, ProductView } from './product.ts';

/** Panel with the webhooks the product sends: its endpoints and deliveries, and what arrived at our own receiver. */
export function webhooksPanel(world: World, view: ProductView): Html {
  const endpoints = view.state === 'ok' ? view.overview.accounts.flatMap(({ webhooks }) => webhooks) : [];
  return html`<section class="panel" aria-labelledby="webhooks-title">
<h2 id="webhooks-title">Webhooks to customers</h2>
<div id="webhooks" data-live>
${
  endpoints.length === 0
    ? html`<p class="muted">No endpoint yet. Register one of the receivers below, or your own on this machine.</p>`
    : endpoints.map(endpointEntry)
}
</div>
<h3>Receivers</h3>
<ul class="log-plain">${Object.entries(RECEIVER_MODES).map(
    ([mode, does]) => html`<li><span class="id">${baseUrl(world)}/receiver/${mode}</span> ${does}</li>`,
  )}</ul>
<h3>Arrived here</h3>
<div id="received" data-live>${arrived(world)}</div>
</section>`;
}

function endpointEntry(endpoint: ProductEndpoint): Html {
  const { delivered, failed, dlq } = endpoint.delivery_counts;
  return html`<details id="endpoint-${endpoint.id}">
<summary><b class="id">${endpoint.url}</b> ${tag(endpoint.active ? 'active' : 'paused')}</summary>
<dl class="facts">
<dt>Endpoint</dt><dd class="id">${endpoint.id}</dd>
<dt>Events</dt><dd>${endpoint.events.join(', ')}</dd>
<dt>Deliveries</dt><dd>${delivered} delivered, ${failed} failed, ${dlq} given up</dd>
</dl>
${
  endpoint.deliveries.length === 0
    ? html`<p class="muted">Nothing was sent yet.</p>`
    : html`<ul class="log">${endpoint.deliveries.map(
        (one) =>
          html`<li>${stamp(one.created_at)}<div class="what"><b>${one.event_type}</b> ${tag(one.status)}<br><span class="id">${one.id}, ${one.attempts} tries${one.response_status === null ? '' : `, answered ${one.response_status}`}</span>${one.error === null ? null : html`<br><span class="error">${one.error}</span>`}${one.response_excerpt ? html`<br><span class="id">${one.response_excerpt.slice(0, 200)}</span>` : null}${one.payload === null ? null : payload(`payload-${one.id}`, JSON.stringify(one.payload, null, 2))}</div></li>`,
      )}</ul>`
}
</details>`;
}

function arrived(world: World): Html {
  const webhooks = receivedWebhooks(world);
  if (webhooks.length === 0) return html`<p class="muted">Nothing yet.</p>`;
  return html`<ul class="log">${webhooks.map(
    (one, at) =>
      html`<li>${stamp(one.at)}<div class="what"><b>${one.type}</b> <span class="tag">${one.mode}</span><br><span class="id">${one.eventId}</span>${payload(`arrived-${webhooks.length - at}-${one.eventId}`, one.body)}</div></li>`,
  )}</ul>`;
}

function payload(id: string, text: string): Html {
  return html`<details id="${id}"><summary>Payload</summary><pre>${text}</pre></details>`;
}
