import type Stripe from 'stripe';
import { z } from 'zod';
import { TRIAL_PACK } from '../../../../shared/catalog.ts';
import type { Database, Tx } from '../../../database/connection.ts';
import { CheckoutAttempt, TrialPackPrice } from '../../../database/entities/billing.ts';
import type { StripeCalls } from '../../api/gateway.ts';
import { type Learned, meaningsOf } from '../subscription/prices.ts';

/** A price as a line names it: the whole of it on a Checkout session, its id and product's on an invoice. */
export type Named = { id: string; product: string | null; whole: Stripe.Price | null };

/** Tells what we sell from what else is sold in the same Stripe account, by what it is and never by who says so. */
export type Catalogue = {
  /**
   * Whether a price is the trial pack's: by its product, by its lookup key, or because it once had that key or was
   * sold as the pack by us. `attemptId` names the attempt of ours in which it is sold now.
   */
  isPack(price: Named, attemptId?: string | null): Promise<boolean>;
  /** Whether a price is one of a tier of ours, now or as we remember it. */
  isPlan(price: Named): Promise<boolean>;
};

type Reads = Pick<StripeCalls, 'readPrice' | 'readProduct'>;

/** What we sell, as known in one pass; each price is looked up once. */
export function catalogueOf(
  { db, em }: { db: Pick<Database, 'pool'>; em: Tx },
  stripe: Reads,
  learned: Learned,
): Catalogue {
  const packs = new Map<string, boolean>();
  const isPackPrice = async ({ id, product, whole }: Named, attemptId: string | null): Promise<boolean> => {
    if (product === TRIAL_PACK.productId) return true;
    const known = packs.get(id);
    if (known !== undefined) return known;
    if (whole?.recurring) return false;
    if (learned.packs.has(id) || (await em.count(TrialPackPrice, { stripePriceId: id })) > 0) return true;
    const price = whole ?? (await stripe.readPrice(id));
    const sells =
      price?.lookup_key === TRIAL_PACK.lookupKey ||
      (attemptId !== null && (await soldAsPack(em, attemptId, id)));
    if (sells) learned.packs.add(id);
    return sells;
  };
  return {
    async isPack(price, attemptId = null) {
      const is = await isPackPrice(price, attemptId);
      packs.set(price.id, is);
      return is;
    },
    async isPlan({ id, whole }) {
      return (await meaningsOf(db, stripe, new Map([[id, whole]]), learned)).has(id);
    },
  };
}

/** Whether an attempt of ours offered this price as the trial pack: its lookup key may have been moved since. */
async function soldAsPack(em: Tx, attemptId: string, price: string): Promise<boolean> {
  const attempt = await em.findOne(CheckoutAttempt, { id: attemptId, kind: 'trial_pack' });
  const sold = offered.safeParse(attempt?.params);
  return sold.success && sold.data.line_items.some((line) => line.price === price);
}

const offered = z.object({ line_items: z.array(z.object({ price: z.string() })) });
