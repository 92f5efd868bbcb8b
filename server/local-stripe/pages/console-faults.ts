import { type ApiFault, type ApiFaultOrder, orderApiFault } from '../faults.ts';
import { MAIL_FAULTS, pendingMailFault } from '../mails.ts';
import { orderWebhookFault, type WebhookFault, type WebhookFaultOrder } from '../webhook-faults.ts';
import type { World } from '../world.ts';
import { type Html, html } from './html.ts';
import { MAIL_FAULT_NAMES } from './mailbox.ts';
import { count } from './words.ts';

/** Webhook faults as offered, each with how it reads after "the next webhooks shall". */
const WEBHOOK_FAULTS: Record<string, { readonly name: string; readonly fault: WebhookFault }> = {
  drop: { name: 'be lost', fault: { kind: 'drop' } },
  duplicate: { name: 'arrive twice', fault: { kind: 'duplicate' } },
  reorder: { name: 'arrive after a later one', fault: { kind: 'reorder' } },
  delay: { name: 'come 30 s late', fault: { kind: 'delay', seconds: 30 } },
  bad_signature: { name: 'have a wrong signature', fault: { kind: 'bad_signature' } },
};

const API_FAULTS: Record<string, { readonly name: string; readonly fault: ApiFault }> = {
  rate_limit: { name: 'get 429', fault: { kind: 'rate_limit', retryAfterSeconds: null } },
  rate_limit_wait: {
    name: 'get 429 with Retry-After: 2',
    fault: { kind: 'rate_limit', retryAfterSeconds: 2 },
  },
  error: { name: 'get 500, no effect', fault: { kind: 'server_error', status: 500, effect: false } },
  error_after: {
    name: 'get 500 after the effect',
    fault: { kind: 'server_error', status: 500, effect: true },
  },
  timeout: { name: 'never be answered, no effect', fault: { kind: 'timeout', effect: false } },
  timeout_after: { name: 'never be answered, but work', fault: { kind: 'timeout', effect: true } },
  hang_up: { name: 'be cut off after the effect', fault: { kind: 'hang_up', effect: true } },
  truncate: { name: 'get half an answer', fault: { kind: 'truncate' } },
  garbage: { name: 'get something that is not JSON', fault: { kind: 'garbage' } },
  latency: { name: 'take 5 s', fault: { kind: 'latency', ms: 5_000 } },
};

/** Orders the fault that the form named; false when the form makes no sense. */
export function orderFault(world: World, side: string, kind: string, times: number): boolean {
  if (!Number.isInteger(times) || times < 1 || times > 1000) return false;
  const webhook = side === 'webhooks' ? WEBHOOK_FAULTS[kind] : undefined;
  const api = side === 'api' ? API_FAULTS[kind] : undefined;
  if (webhook) orderWebhookFault(world, { fault: webhook.fault, types: null, times });
  if (api) orderApiFault(world, { fault: api.fault, method: null, path: null, times });
  return webhook !== undefined || api !== undefined;
}

/** Takes all ordered faults of webhooks and API calls back. */
export function clearFaults(world: World): void {
  for (const name of ['webhook_fault', 'api_fault'])
    for (const { id } of world.hidden.all(name)) world.hidden.remove(name, id);
}

/** Panel with what can be made to go wrong, and what is ordered. */
export function faultsPanel(world: World): Html {
  return html`<section class="panel" aria-labelledby="faults-title">
<h2 id="faults-title">Faults</h2>
<p class="muted">A customer’s next payment is failed at the customer.</p>
${faultForm('webhooks', 'Webhooks', 'The next', WEBHOOK_FAULTS)}
${faultForm('api', 'Calls to the API', 'The next', API_FAULTS)}
${mailFaultForm()}
<div id="faults" data-live>${ordered(world)}</div>
</section>`;
}

function faultForm(
  side: string,
  title: string,
  label: string,
  faults: Readonly<Record<string, { readonly name: string }>>,
): Html {
  return html`<form method="post" action="/console/faults/${side}" data-quiet data-done="Ordered." aria-label="${title}">
<h3>${title}</h3>
<div class="row end">
<div class="field few"><label for="${side}-count">${label}</label><input id="${side}-count" name="count" type="number" min="1" max="1000" value="1" required></div>
<div class="field"><label for="${side}-kind">shall</label><select id="${side}-kind" name="kind">${Object.entries(faults).map(([kind, { name }]) => html`<option value="${kind}">${name}</option>`)}</select></div>
<button id="${side}-set">Order</button></div></form>`;
}

function mailFaultForm(): Html {
  return html`<form method="post" action="/mailbox/faults" data-quiet data-done="Ordered." aria-label="Mails">
<h3>Mails</h3>
<div class="row end">
<div class="field few"><label for="mail-count">The next</label><input id="mail-count" name="count" type="number" min="0" max="1000" value="1" required></div>
<div class="field"><label for="mail-kind">shall</label><select id="mail-kind" name="kind">${MAIL_FAULTS.map((kind) => html`<option value="${kind}">${MAIL_FAULT_NAMES[kind]}</option>`)}</select></div>
<button id="mail-set">Order</button></div></form>`;
}

function ordered(world: World): Html {
  const webhooks = world.hidden.all<WebhookFaultOrder>('webhook_fault');
  const api = world.hidden.all<ApiFaultOrder>('api_fault');
  const mail = pendingMailFault(world);
  if (webhooks.length + api.length === 0 && !mail) return html`<p class="muted">Nothing is ordered.</p>`;
  return html`<ul class="hint">
${webhooks.map(({ value }) => html`<li>${count(value.times, 'webhook')}: ${nameOf(WEBHOOK_FAULTS, value.fault)}</li>`)}
${api.map(({ value }) => html`<li>${count(value.times, 'API call')}: ${nameOf(API_FAULTS, value.fault)}</li>`)}
${mail ? html`<li>${count(mail.left, 'mail')}: ${MAIL_FAULT_NAMES[mail.kind]}</li>` : null}</ul>
<form method="post" action="/console/faults/clear" data-quiet data-done="All taken back."><button class="plain" id="faults-clear">Take all back</button></form>`;
}

/** How an ordered fault reads; one ordered by API may not be among those offered here. */
function nameOf(
  offered: Readonly<Record<string, { readonly name: string; readonly fault: object }>>,
  fault: { readonly kind: string },
): string {
  const wanted = JSON.stringify(fault);
  return Object.values(offered).find((one) => JSON.stringify(one.fault) === wanted)?.name ?? fault.kind;
}
