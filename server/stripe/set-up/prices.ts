import type Stripe from 'stripe';
import { CATALOGUE, type CatalogueEntry, type Tier, TRIAL_PACK } from '../../../shared/catalog.ts';
import { stripeCode } from '../api/refusal.ts';
import { change, make, type Run } from './steps.ts';

/** A price that is sold under a lookup key. */
export type Sold = { id: string; product: string };

type Wanted = {
  lookupKey: string;
  /** How often it recurs; null for one charge. */
  interval: 'month' | 'year' | null;
  product: { id: string } & Omit<Stripe.ProductCreateParams, 'id'>;
  price: Omit<Stripe.PriceCreateParams, 'product' | 'lookup_key'>;
};

/**
 * Makes sure that each lookup key names an active price of an active product, and answers them by key. A price that
 * is there keeps the amount and the currency its operator gave it. One that recurs otherwise than its key says is
 * named, and left: nobody but the operator knows what the right one costs.
 */
export async function setUpPrices(run: Run): Promise<Map<string, Sold>> {
  const sold = new Map<string, Sold>();
  for (const wanted of [...CATALOGUE.map(plan), PACK])
    sold.set(wanted.lookupKey, await setUpPrice(run, wanted));
  return sold;
}

async function setUpPrice(run: Run, wanted: Wanted): Promise<Sold> {
  const { stripe } = run;
  const { lookupKey } = wanted;
  const there = await find(stripe, lookupKey);
  if (there) return await keep(run, wanted, there);
  const product = await setUpProduct(run, wanted.product);
  try {
    const id = await make(run, { what: lookupKey }, () =>
      stripe.prices.create({ ...wanted.price, product, lookup_key: lookupKey }),
    );
    return { id, product };
  } catch (error) {
    // Another run was faster.
    const others = await find(stripe, lookupKey);
    if (!others) throw error;
    return await keep(run, wanted, others);
  }
}

/** An archived price keeps its lookup key, and Stripe gives no second one the same. */
async function find(stripe: Stripe, lookupKey: string): Promise<Stripe.Price | null> {
  for (const active of [true, false]) {
    const { data } = await stripe.prices.list({ lookup_keys: [lookupKey], active, limit: 1 });
    if (data[0]) return data[0];
  }
  return null;
}

async function keep(run: Run, wanted: Wanted, price: Stripe.Price): Promise<Sold> {
  const { lookupKey, interval } = wanted;
  const { id } = price;
  const product = typeof price.product === 'string' ? price.product : price.product.id;
  await reactivateProduct(run, product);
  const mistake = mistakeIn(price, interval);
  const said = { what: lookupKey, id, note: amountOf(price) };
  if (mistake !== null) run.tell({ ...said, did: 'wrong', note: mistake });
  else if (price.active) run.tell({ ...said, did: 'left' });
  else {
    const note = `it was archived; ${amountOf(price)}`;
    await change(run, { ...said, did: 'reactivated', note }, () =>
      run.stripe.prices.update(id, { active: true }),
    );
  }
  return { id, product };
}

/** What keeps a price from being sold under its key, in words; null for none. */
function mistakeIn(price: Stripe.Price, interval: Wanted['interval']): string | null {
  const mend = 'move the lookup key in Stripe to a price that is right, then run this again';
  const { recurring } = price;
  const is = recurring
    ? `recurs every ${recurring.interval_count} ${recurring.interval}(s)`
    : 'is one charge';
  const should = interval === null ? 'be one charge' : `recur every ${interval}`;
  const right =
    interval === null
      ? recurring === null
      : recurring?.interval === interval && recurring.interval_count === 1;
  if (!right) return `it ${is} and has to ${should}: ${mend}`;
  if (recurring?.usage_type === 'metered') return `it is metered: ${mend}`;
  if (price.unit_amount === null) return `it has no fixed amount: ${mend}`;
  if (interval === null && (price.currency !== 'usd' || price.unit_amount !== TRIAL_PACK.amountCents)) {
    return `it costs ${amountOf(price)} and has to cost ${TRIAL_PACK.amountCents} usd cents: ${mend}`;
  }
  return null;
}

const amountOf = ({ unit_amount: amount, currency }: Stripe.Price): string => `${amount ?? '?'} ${currency}`;

/** Products have ids of our own, so that two runs at once cannot make two. */
async function setUpProduct(run: Run, { id, ...params }: Wanted['product']): Promise<string> {
  const { stripe } = run;
  const { data } = await stripe.products.list({ ids: [id], limit: 1 });
  if (data[0]) return await reactivateProduct(run, id);
  if (run.dryRun)
    return await make(run, { what: `product ${id}` }, () => stripe.products.create({ id, ...params }));
  try {
    return await make(run, { what: `product ${id}` }, () => stripe.products.create({ id, ...params }));
  } catch (error) {
    if (stripeCode(error) !== 'resource_already_exists') throw error;
    const others = await stripe.products.list({ ids: [id], limit: 1 });
    if (others.data[0]) return await reactivateProduct(run, id);
    // A product was deleted whose id Stripe does not give again.
    return await make(
      run,
      { what: `product ${id}`, note: 'under another id: one with its own was deleted' },
      () => stripe.products.create(params),
    );
  }
}

async function reactivateProduct(run: Run, id: string): Promise<string> {
  const product = await run.stripe.products.retrieve(id);
  if (product.active) return id;
  const note = 'it was archived, and nothing of it could be sold';
  await change(run, { did: 'reactivated', what: `product ${product.name}`, id, note }, () =>
    run.stripe.products.update(id, { active: true }),
  );
  return id;
}

function plan({ tier, billingPeriod, lookupKey, amountCents }: CatalogueEntry): Wanted {
  const interval = billingPeriod === 'annual' ? 'year' : 'month';
  return {
    lookupKey,
    interval,
    product: {
      id: `driftstack_${tier}`,
      name: `Driftstack ${nameOf(tier)}`,
      metadata: { driftstack_tier: tier },
    },
    price: {
      currency: 'usd',
      unit_amount: amountCents,
      recurring: { interval },
      // A lookup key can be moved to another price; this stays, so that its subscribers stay known.
      metadata: { driftstack_tier: tier, driftstack_billing_period: billingPeriod },
    },
  };
}

const PACK: Wanted = {
  lookupKey: TRIAL_PACK.lookupKey,
  interval: null,
  product: { id: TRIAL_PACK.productId, name: 'Driftstack trial pack' },
  price: { currency: 'usd', unit_amount: TRIAL_PACK.amountCents },
};

const nameOf = (tier: Tier): string =>
  tier
    .split('_')
    .map((word) => (word === 'api' ? 'API' : word.charAt(0).toUpperCase() + word.slice(1)))
    .join(' ');
