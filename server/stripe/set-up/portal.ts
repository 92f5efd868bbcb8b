import { hash } from 'node:crypto';
import type Stripe from 'stripe';
import { CATALOGUE } from '../../../shared/catalog.ts';
import type { Sold } from './prices.ts';
import { change, make, NOT_MADE, type Run } from './steps.ts';

/** Stripe leaves it out unless asked. */
const PRODUCTS = 'data.features.subscription_update.products';

/** The name under which we find our configuration again. */
const OURS = { driftstack: 'portal' };

/** Upgrades at once with proration, downgrades and cancellations at the end of the period. */
export async function setUpPortal(
  run: Run,
  prices: ReadonlyMap<string, Sold>,
  returnUrl: string | null,
): Promise<string> {
  const { stripe } = run;
  const params = configuration(prices, returnUrl);
  const ours: Stripe.BillingPortal.Configuration[] = [];
  for (const active of [true, false]) {
    for await (const one of stripe.billingPortal.configurations.list({
      active,
      limit: 100,
      expand: [PRODUCTS],
    })) {
      if (one.metadata?.['driftstack'] === OURS.driftstack) ours.push(one);
    }
    // Stripe lists the newest first; that one is used, here as where sessions are opened.
    const [found] = ours;
    if (!found) continue;
    const { id } = found;
    const said = { what: 'customer portal', id };
    if (found.active && holds(found, params)) {
      run.tell({ ...said, did: 'left', note: '' });
      return id;
    }
    const note = found.active ? 'it did not offer what is sold as it should' : 'it had been switched off';
    const did = found.active ? 'changed' : 'reactivated';
    await change(run, { ...said, did, note }, () =>
      stripe.billingPortal.configurations.update(id, { ...params, active: true }),
    );
    return id;
  }
  // Nobody can delete one, so a key made of what it is stands for one of them: also for two runs at once.
  const idempotencyKey = `driftstack-setup-portal-${hash('sha256', JSON.stringify(params)).slice(0, 32)}`;
  return await make(run, { what: 'customer portal' }, () =>
    stripe.billingPortal.configurations.create(params, { idempotencyKey }),
  );
}

function configuration(prices: ReadonlyMap<string, Sold>, returnUrl: string | null) {
  const sold = CATALOGUE.flatMap(({ lookupKey }) => prices.get(lookupKey) ?? []);
  const products = [...Map.groupBy(sold, ({ product }) => product)].map(([product, its]) => ({
    product,
    prices: its.map(({ id }) => id).filter((id) => id !== NOT_MADE),
  }));
  return {
    business_profile: { headline: 'Driftstack' },
    ...(returnUrl !== null && { default_return_url: returnUrl }),
    features: {
      customer_update: { enabled: true, allowed_updates: ['email', 'address', 'tax_id'] },
      invoice_history: { enabled: true },
      payment_method_update: { enabled: true },
      subscription_cancel: { enabled: true, mode: 'at_period_end', proration_behavior: 'none' },
      subscription_update: {
        enabled: true,
        default_allowed_updates: ['price'],
        products,
        proration_behavior: 'always_invoice',
        schedule_at_period_end: {
          conditions: [{ type: 'decreasing_item_amount' }, { type: 'shortening_interval' }],
        },
      },
    },
    metadata: OURS,
  } satisfies Stripe.BillingPortal.ConfigurationCreateParams;
}

/** Whether everything wanted is there; lists in any order, and with nothing more. */
function holds(there: unknown, wanted: unknown): boolean {
  if (Array.isArray(wanted)) {
    if (!Array.isArray(there) || there.length !== wanted.length) return false;
    return wanted.every((one) => there.some((other) => holds(other, one)));
  }
  if (typeof wanted !== 'object' || wanted === null) return there === wanted;
  if (typeof there !== 'object' || there === null) return false;
  return Object.entries(wanted).every(([name, member]) => holds(Reflect.get(there, name), member));
}
