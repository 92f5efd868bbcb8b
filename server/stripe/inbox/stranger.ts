import type Stripe from 'stripe';
import { CATALOGUE, TRIAL_PACK } from '../../../shared/catalog.ts';
import type { Database } from '../../database/connection.ts';
import { Price, TrialPackPrice } from '../../database/entities/billing.ts';
import type { StripeEvent } from '../../database/entities/journal.ts';
import type { StripeCalls } from '../api/gateway.ts';
import { idOf } from '../sync/purchase/purchase.ts';

/** Events by which somebody has paid, and which therefore can be a sale of ours to nobody we know. */
const SALES: ReadonlySet<string> = new Set([
  'checkout.session.completed',
  'checkout.session.async_payment_succeeded',
  'invoice.paid',
]);

export const isSale = ({ type, objectId }: StripeEvent): boolean => Boolean(objectId) && SALES.has(type);

/** What a customer of nobody's has paid for, as far as it is ours; ids of prices. */
export type StrangeSale = { readonly priceIds: readonly string[] };

/**
 * Whether a sale to a customer whom no account of ours has was one of our prices, as with a payment link that makes
 * customers of its own. A Stripe account may sell other things as well: each of their sales costs one call and two
 * statements, and none that is not paid. Null where it is not ours, or where the invoice of a session tells of it.
 */
export async function readStrangeSale(
  db: Database,
  stripe: Pick<StripeCalls, 'readCheckoutSession' | 'readSessionLines' | 'listInvoiceLines'>,
  { type, objectId }: StripeEvent,
): Promise<StrangeSale | null> {
  if (!objectId) return null;
  const prices =
    type === 'invoice.paid'
      ? (await stripe.listInvoiceLines(objectId)).flatMap(
          ({ pricing }) => pricing?.price_details?.price ?? [],
        )
      : await pricesOfSession(stripe, objectId);
  const ours = await sold(db, prices);
  return ours.length === 0 ? null : { priceIds: ours };
}

async function pricesOfSession(
  stripe: Pick<StripeCalls, 'readCheckoutSession' | 'readSessionLines'>,
  id: string,
): Promise<Stripe.Price[]> {
  const session = await stripe.readCheckoutSession(id);
  if (!session || session.payment_status === 'unpaid' || idOf(session.invoice) !== null) return [];
  return (await stripe.readSessionLines(session)).flatMap(({ price }) => price ?? []);
}

async function sold(db: Database, prices: readonly (string | Stripe.Price)[]): Promise<string[]> {
  const ids = [...new Set(prices.flatMap((price) => idOf(price) ?? []))];
  if (ids.length === 0) return [];
  const em = db.orm.em.fork();
  const plans = await em.find(Price, { stripePriceId: { $in: ids } });
  const packs = await em.find(TrialPackPrice, { stripePriceId: { $in: ids } });
  const remembered = new Set([...plans, ...packs].map(({ stripePriceId }) => stripePriceId));
  const named = prices.filter((price) => typeof price !== 'string' && isNamedAsOurs(price)).map(idOf);
  return ids.filter((id) => remembered.has(id) || named.includes(id));
}

/** By what we gave it ourselves: the product, the lookup key, or the tier in its metadata. */
function isNamedAsOurs({ product, lookup_key: key, metadata }: Stripe.Price): boolean {
  const isKnown = CATALOGUE.some(({ lookupKey }) => lookupKey === key) || key === TRIAL_PACK.lookupKey;
  return isKnown || idOf(product) === TRIAL_PACK.productId || metadata['driftstack_tier'] !== undefined;
}
