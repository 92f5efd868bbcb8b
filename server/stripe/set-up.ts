import type Stripe from 'stripe';
import { CATALOGUE, type CatalogueEntry, type Tier, TRIAL_PACK } from '../../shared/catalog.ts';
import { EVENT_TYPES } from './events.ts';
import type { StripeGateway } from './gateway.ts';

export type SetUpOptions = {
  /** Where Stripe sends its events; null leaves webhook endpoints alone. */
  webhookUrl: string | null;
  /** Where the portal leads back to when a call names nothing; null for no link. */
  portalReturnUrl?: string | null;
};

export type SetUp = {
  /** Lookup key -> price id. */
  prices: ReadonlyMap<string, string>;
  /** Lookup keys whose price was created by this run. */
  created: readonly string[];
  portalConfigurationId: string;
  /** The secret is shown by Stripe once: null for an endpoint that was there before. */
  webhook: { id: string; secret: string | null } | null;
};

const PACK_PRODUCT = 'driftstack_trial_pack';

/**
 * Makes in Stripe what this service needs: a product per tier, a price per lookup key, the trial pack, the
 * portal's configuration and the webhook endpoint, pinned to the API version of the SDK. Running it again
 * changes nothing that is right; a price that is there keeps the amount its operator gave it.
 */
export async function setUpStripe(
  { sdk: stripe }: Pick<StripeGateway, 'sdk'>,
  { webhookUrl, portalReturnUrl = null }: SetUpOptions,
): Promise<SetUp> {
  const prices = new Map<string, string>();
  const created: string[] = [];
  const ensure = async (key: string, make: () => Promise<Stripe.Price>) => {
    const existing = await stripe.prices.list({ lookup_keys: [key], active: true, limit: 1 });
    const price = existing.data[0] ?? (await make());
    if (existing.data.length === 0) created.push(key);
    prices.set(key, price.id);
  };
  for (const entry of CATALOGUE) await ensure(entry.lookupKey, () => createPrice(stripe, entry));
  await ensure(TRIAL_PACK.lookupKey, () => createPackPrice(stripe));

  const portal = await ensurePortal(stripe, prices, portalReturnUrl);
  const webhook = webhookUrl === null ? null : await ensureEndpoint(stripe, webhookUrl);
  return { prices, created, portalConfigurationId: portal.id, webhook };
}

const productId = (tier: Tier) => `driftstack_${tier}`;

async function createPrice(stripe: Stripe, entry: CatalogueEntry): Promise<Stripe.Price> {
  const { tier, billingPeriod, lookupKey, amountCents } = entry;
  const product = await ensureProduct(stripe, productId(tier), {
    name: `Driftstack ${nameOf(tier)}`,
    metadata: { driftstack_tier: tier },
  });
  return await stripe.prices.create({
    product,
    currency: 'usd',
    unit_amount: amountCents,
    recurring: { interval: billingPeriod === 'annual' ? 'year' : 'month' },
    lookup_key: lookupKey,
    // A lookup key can be moved to another price; this stays, so that its subscribers stay known.
    metadata: { driftstack_tier: tier, driftstack_billing_period: billingPeriod },
  });
}

async function createPackPrice(stripe: Stripe): Promise<Stripe.Price> {
  const product = await ensureProduct(stripe, PACK_PRODUCT, { name: 'Driftstack trial pack' });
  const { lookupKey: lookup_key, amountCents: unit_amount } = TRIAL_PACK;
  return await stripe.prices.create({ product, currency: 'usd', unit_amount, lookup_key });
}

type ProductParams = Omit<Stripe.ProductCreateParams, 'id'>;

/** Products have ids of our own, so that two runs at once cannot make two. */
async function ensureProduct(stripe: Stripe, id: string, params: ProductParams): Promise<string> {
  const { data } = await stripe.products.list({ ids: [id], limit: 1 });
  if (data.length === 0) await stripe.products.create({ id, ...params });
  return id;
}

const nameOf = (tier: Tier): string =>
  tier
    .split('_')
    .map((word) => (word === 'api' ? 'API' : word.charAt(0).toUpperCase() + word.slice(1)))
    .join(' ');

/** Upgrades at once with proration, downgrades and cancellations at the end of the period. */
async function ensurePortal(stripe: Stripe, prices: ReadonlyMap<string, string>, returnUrl: string | null) {
  const byTier = Map.groupBy(CATALOGUE, ({ tier }) => tier);
  const products = [...byTier].map(([tier, entries]) => ({
    product: productId(tier),
    prices: entries.flatMap(({ lookupKey }) => prices.get(lookupKey) ?? []),
  }));
  const params = {
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
    metadata: { driftstack: 'portal' },
  } satisfies Stripe.BillingPortal.ConfigurationCreateParams;
  const existing = await stripe.billingPortal.configurations.list({ active: true, limit: 100 });
  const ours = existing.data.find(({ metadata }) => metadata?.['driftstack'] === 'portal');
  return ours
    ? await stripe.billingPortal.configurations.update(ours.id, params)
    : await stripe.billingPortal.configurations.create(params);
}

async function ensureEndpoint(stripe: Stripe, url: string): Promise<{ id: string; secret: string | null }> {
  const existing = await stripe.webhookEndpoints.list({ limit: 100 });
  const ours = existing.data.find((endpoint) => endpoint.url === url);
  const enabled_events = [...EVENT_TYPES];
  if (ours) {
    await stripe.webhookEndpoints.update(ours.id, { enabled_events, disabled: false });
    return { id: ours.id, secret: null };
  }
  const api_version = apiVersionOf(stripe);
  const made = await stripe.webhookEndpoints.create({ url, enabled_events, api_version });
  return { id: made.id, secret: made.secret ?? null };
}

/** The version the SDK was made for: its objects are what we read, so events come in the same. */
function apiVersionOf(stripe: Stripe): Stripe.WebhookEndpointCreateParams.ApiVersion {
  return stripe.getApiField('version');
}
