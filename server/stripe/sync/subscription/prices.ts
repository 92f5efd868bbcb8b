import type Stripe from 'stripe';
import { BILLING_PERIODS, CATALOGUE, TIERS } from '../../../../shared/catalog.ts';
import type { Tx } from '../../../database/connection.ts';
import { Price, TrialPackPrice } from '../../../database/entities/billing.ts';
import type { StripeCalls } from '../../api/gateway.ts';
import { idOf } from '../purchase/purchase.ts';
import type { PriceMap, PriceMeaning } from './schedule.ts';

type Reads = Pick<StripeCalls, 'readPrice' | 'readProduct'>;

/**
 * What the prices of these subscriptions mean. What was remembered comes first: a lookup key that is moved to a
 * new price is stripped from the old one, whose subscribers must not become unknown for it. Then come the
 * lookup key and the metadata; what they say is learned. A price without any of it stays out of the map.
 */
export async function readPrices(
  em: Tx,
  stripe: Reads,
  subscriptions: readonly Stripe.Subscription[],
  learned: Learned,
): Promise<PriceMap> {
  return await meaningsOf(em, stripe, pricesOf(subscriptions), learned);
}

/** What each of these prices means, by id, with what came along of it. */
export async function meaningsOf(
  em: Tx,
  stripe: Reads,
  seen: ReadonlyMap<string, Stripe.Price | null>,
  learned: Learned,
): Promise<PriceMap> {
  if (seen.size === 0) return new Map();
  const remembered = await em.find(Price, { stripePriceId: { $in: [...seen.keys()] } });
  const meanings = new Map<string, PriceMeaning>(learned.plans);
  for (const { stripePriceId, tier, billingPeriod } of remembered)
    meanings.set(stripePriceId, { tier, billingPeriod });
  for (const [id, price] of seen) {
    if (meanings.has(id)) continue;
    const meaning = (price && byLookupKey(price)) ?? (await askStripe(stripe, id));
    if (!meaning) continue;
    meanings.set(id, meaning);
    learned.plans.set(id, meaning);
  }
  return meanings;
}

/** What a pass has found out about prices that was not remembered before. */
export type Learned = {
  /** Prices of a tier, by id. */
  readonly plans: Map<string, PriceMeaning>;
  /** Ids of prices of the trial pack. */
  readonly packs: Set<string>;
};

export const nothingLearned = (): Learned => ({ plans: new Map(), packs: new Set() });

/**
 * Remembers what was learned of prices: a lookup key that is moved to a new price is stripped from the old one,
 * which goes on being sold as what it was. They are everybody's, so whoever writes the same one waits for our commit:
 * they are written when nothing is left to be waited for, and in the order of their ids.
 */
export async function rememberPrices(tx: Tx, { plans, packs }: Learned, now: Date): Promise<void> {
  if (plans.size > 0) {
    const rows = [...plans].map(([stripePriceId, meaning]) => ({
      stripePriceId,
      ...meaning,
      firstSeenAt: now,
    }));
    await tx
      .createQueryBuilder(Price)
      .insert(rows.toSorted(byId))
      .onConflict('stripePriceId')
      .ignore()
      .execute();
  }
  if (packs.size > 0) {
    const rows = [...packs].map((stripePriceId) => ({ stripePriceId, firstSeenAt: now }));
    const query = tx.createQueryBuilder(TrialPackPrice).insert(rows.toSorted(byId));
    await query.onConflict('stripePriceId').ignore().execute();
  }
}

const byId = (a: { stripePriceId: string }, b: { stripePriceId: string }): number =>
  a.stripePriceId < b.stripePriceId ? -1 : 1;

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
