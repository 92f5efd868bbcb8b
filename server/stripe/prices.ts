import type Stripe from 'stripe';
import { BILLING_PERIODS, CATALOGUE, TIERS } from '../../shared/catalog.ts';
import type { Tx } from '../database/connection.ts';
import { Price } from '../database/entities/billing.ts';
import type { StripeCalls } from './gateway.ts';
import { idOf } from './purchase.ts';
import type { PriceMap, PriceMeaning } from './schedule.ts';

type Reads = Pick<StripeCalls, 'readPrice' | 'readProduct'>;

/**
 * What the prices of these subscriptions mean. What was remembered comes first: a lookup key that is moved to a
 * new price is stripped from the old one, whose subscribers must not become unknown for it. Then come the
 * lookup key and the metadata; what they say is learned. A price without any of it stays out of the map.
 */
export async function readPrices(
  tx: Tx,
  stripe: Reads,
  subscriptions: readonly Stripe.Subscription[],
  now: Date,
): Promise<PriceMap> {
  return await meaningsOf(tx, stripe, pricesOf(subscriptions), now);
}

/** What each of these prices means, by id, with what came along of it. */
export async function meaningsOf(
  tx: Tx,
  stripe: Reads,
  seen: ReadonlyMap<string, Stripe.Price | null>,
  now: Date,
): Promise<PriceMap> {
  if (seen.size === 0) return new Map();
  const remembered = await tx.find(Price, { stripePriceId: { $in: [...seen.keys()] } });
  const fresh = learned.get(tx) ?? [];
  learned.set(tx, fresh);
  const meanings = new Map<string, PriceMeaning>(
    [...remembered, ...fresh].map(({ stripePriceId, tier, billingPeriod }) => [
      stripePriceId,
      { tier, billingPeriod },
    ]),
  );
  for (const [id, price] of seen) {
    if (meanings.has(id)) continue;
    const meaning = (price && byLookupKey(price)) ?? (await askStripe(stripe, id));
    if (!meaning) continue;
    meanings.set(id, meaning);
    fresh.push({ stripePriceId: id, ...meaning, firstSeenAt: now });
  }
  return meanings;
}

/** What was found out in transactions that are under way. */
const learned = new WeakMap<Tx, Price[]>();

/**
 * Remembers what this transaction has learned of prices. They are everybody's, so whoever writes the same one waits
 * for our commit: they are written when nothing is left to be waited for, and in the order of their ids.
 */
export async function rememberPrices(tx: Tx): Promise<void> {
  const fresh = new Map(learned.get(tx)?.map((price) => [price.stripePriceId, price]));
  learned.delete(tx);
  if (fresh.size === 0) return;
  await tx
    .createQueryBuilder(Price)
    .insert([...fresh.values()].toSorted((a, b) => (a.stripePriceId < b.stripePriceId ? -1 : 1)))
    .onConflict('stripePriceId')
    .ignore()
    .execute();
}

/** Ids of the prices billed now and of those in the phases of a schedule, with what came along of them. */
function pricesOf(subscriptions: readonly Stripe.Subscription[]): Map<string, Stripe.Price | null> {
  const seen = new Map<string, Stripe.Price | null>();
  for (const { items, schedule } of subscriptions) {
    for (const { price } of items.data) seen.set(price.id, price);
    if (schedule === null || typeof schedule === 'string') continue;
    for (const phase of schedule.phases) {
      for (const { price } of phase.items) {
        const id = typeof price === 'string' ? price : price.id;
        if (!seen.has(id)) seen.set(id, null);
      }
    }
  }
  return seen;
}

async function askStripe(stripe: Reads, id: string): Promise<PriceMeaning | null> {
  const price = await stripe.readPrice(id);
  if (!price) return null;
  const known = byLookupKey(price) ?? byMetadata(price.metadata, price);
  if (known) return known;
  const product = await stripe.readProduct(idOf(price.product) ?? '');
  return product && byMetadata({ ...product.metadata, ...price.metadata }, price);
}

function byLookupKey(price: Stripe.Price): PriceMeaning | null {
  const entry = CATALOGUE.find(({ lookupKey }) => lookupKey === price.lookup_key);
  return entry ? { tier: entry.tier, billingPeriod: entry.billingPeriod } : null;
}

/** The product says the tier; how often the price recurs says the period, unless the metadata does. */
function byMetadata(metadata: Stripe.Metadata, { recurring }: Stripe.Price): PriceMeaning | null {
  const tier = TIERS.find((known) => known === metadata['driftstack_tier']);
  const recurs =
    recurring?.interval === 'year' ? 'annual' : recurring?.interval === 'month' ? 'monthly' : null;
  const billingPeriod =
    BILLING_PERIODS.find((known) => known === metadata['driftstack_billing_period']) ?? recurs;
  return tier && billingPeriod ? { tier, billingPeriod } : null;
}
