import type { Pool } from 'pg';
import type Stripe from 'stripe';
import { BILLING_PERIODS, CATALOGUE, TIERS } from '../../../../shared/catalog.ts';
import type { Database, Tx } from '../../../database/connection.ts';
import { Price, TrialPackPrice } from '../../../database/entities/billing.ts';
import { runAlone, type Statement } from '../../../database/statement.ts';
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
  db: Pick<Database, 'pool'>,
  stripe: Reads,
  subscriptions: readonly Stripe.Subscription[],
  learned: Learned,
): Promise<PriceMap> {
  return await meaningsOf(db, stripe, pricesOf(subscriptions), learned);
}

/** What each of these prices means, by id, with what came along of it. */
export async function meaningsOf(
  db: Pick<Database, 'pool'>,
  stripe: Reads,
  seen: ReadonlyMap<string, Stripe.Price | null>,
  learned: Learned,
): Promise<PriceMap> {
  if (seen.size === 0) return new Map();
  const meanings = new Map<string, PriceMeaning>(learned.plans);
  for (const [id, meaning] of await remembered(db, [...seen.keys()])) meanings.set(id, meaning);
  for (const [id, price] of seen) {
    if (meanings.has(id)) continue;
    const meaning = (price && byLookupKey(price)) ?? (await askStripe(stripe, id));
    if (!meaning) continue;
    meanings.set(id, meaning);
    learned.plans.set(id, meaning);
  }
  return meanings;
}

/** What each process knows of the remembered prices: what one of them once meant, it means for ever. */
const known = new WeakMap<Pool, Map<string, PriceMeaning>>();

type PriceRow = PriceMeaning & { readonly id: string };

const READ: Statement = {
  name: 'read-prices',
  text: `select stripe_price_id as id, tier, billing_period as "billingPeriod" from price
    where stripe_price_id = any ($1::text[])`,
};

/** What these prices mean, as far as that is remembered. It is read once for each. */
async function remembered(
  db: Pick<Database, 'pool'>,
  ids: readonly string[],
): Promise<Map<string, PriceMeaning>> {
  const here = known.get(db.pool) ?? new Map<string, PriceMeaning>();
  known.set(db.pool, here);
  const unread = ids.filter((id) => !here.has(id));
  if (unread.length > 0) {
    const rows = await runAlone<PriceRow>(db, READ, [unread]);
    for (const { id, tier, billingPeriod } of rows) here.set(id, { tier, billingPeriod });
  }
  return new Map(
    ids.flatMap((id) => {
      const meaning = here.get(id);
      return meaning ? [[id, meaning] as const] : [];
    }),
  );
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
