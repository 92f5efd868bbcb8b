import { hash } from 'node:crypto';
import type Stripe from 'stripe';
import { isMissing } from '../api/refusal.ts';
import { EVENT_TYPES } from '../events.ts';
import { change, make, type Run } from './steps.ts';

export type Endpoint = { id: string; secret: string | null };

/** Makes sure that the address gets our events, and answers its secret where this run has made it. */
export async function setUpEndpoint(run: Run, url: string): Promise<Endpoint> {
  const { stripe } = run;
  const there: Stripe.WebhookEndpoint[] = [];
  for await (const endpoint of stripe.webhookEndpoints.list({ limit: 100 })) {
    if (endpoint.url === url) there.push(endpoint);
  }
  const version = apiVersionOf(stripe);
  const best =
    there.find(({ api_version, status }) => api_version === version && status === 'enabled') ??
    there.find(({ api_version }) => api_version === version) ??
    there[0];
  if (!best) return await create(run, url);
  await keep(run, best);
  for (const { id, status } of there) {
    if (id === best.id || status !== 'enabled') continue;
    const note = 'it delivers to the same address, so each event comes twice; delete the one you do not need';
    run.tell({ did: 'wrong', what: 'webhook endpoint', id, note });
  }
  return { id: best.id, secret: null };
}

async function keep(run: Run, endpoint: Stripe.WebhookEndpoint): Promise<void> {
  const { stripe } = run;
  const { id, status, enabled_events: events, api_version: version } = endpoint;
  const wanted = apiVersionOf(stripe);
  const missing = EVENT_TYPES.filter((type) => !events.includes(type));
  const isExact = missing.length === 0 && events.length === EVENT_TYPES.length;
  const said = { what: 'webhook endpoint', id };
  const secret = 'its secret is the one Stripe showed when it was made';
  if (status === 'enabled' && isExact) run.tell({ ...said, did: 'left', note: secret });
  else {
    const was = [
      ...(status === 'enabled' ? [] : ['it had been disabled']),
      ...(isExact
        ? []
        : [missing.length > 0 ? `it lacked ${missing.join(', ')}` : 'it got more than our events']),
    ];
    const did = status === 'enabled' ? 'changed' : 'reactivated';
    await change(run, { ...said, did, note: `${was.join('; ')}; ${secret}` }, () =>
      stripe.webhookEndpoints.update(id, { enabled_events: [...EVENT_TYPES], disabled: false }),
    );
  }
  if (version === wanted) return;
  const has = version === null ? "the account's API version" : `API version ${version}`;
  const note = `it sends ${has}, and this service reads ${wanted}: Stripe cannot change that, so delete it, run this again, and put the new secret into STRIPE_WEBHOOK_SECRETS beside the old one`;
  run.tell({ ...said, did: 'wrong', note });
}

async function create(run: Run, url: string): Promise<Endpoint> {
  const { stripe } = run;
  const params = { url, enabled_events: [...EVENT_TYPES], api_version: apiVersionOf(stripe) };
  const idempotencyKey = `driftstack-setup-endpoint-${hash('sha256', JSON.stringify(params)).slice(0, 32)}`;
  let secret: string | null = null;
  const id = await make(run, { what: 'webhook endpoint' }, async () => {
    // Under one key, so that two runs at once make one and both are shown its secret.
    let made = await stripe.webhookEndpoints.create(params, { idempotencyKey });
    // Stripe repeats what it answered first, for a day, also of one that was deleted since.
    if (!(await exists(stripe, made.id))) made = await stripe.webhookEndpoints.create(params);
    secret = made.secret ?? null;
    return made;
  });
  return { id, secret };
}

async function exists(stripe: Stripe, id: string): Promise<boolean> {
  try {
    await stripe.webhookEndpoints.retrieve(id);
    return true;
  } catch (error) {
    if (isMissing(error)) return false;
    throw error;
  }
}

/** The version the SDK was made for: its objects are what we read, so events come in the same. */
function apiVersionOf(stripe: Stripe): Stripe.WebhookEndpointCreateParams.ApiVersion {
  return stripe.getApiField('version');
}
