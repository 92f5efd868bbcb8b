import { z } from 'zod';

/** The tiers a customer can buy by themselves, from the lowest rank to the highest. */
export const TIERS = [
  'api_starter',
  'solo_manual',
  'api_builder',
  'team_manual',
  'api_scale',
  'agency_manual',
] as const;
export type Tier = (typeof TIERS)[number];

/** The two lengths of a billing period. */
export const BILLING_PERIODS = ['monthly', 'annual'] as const;
export type BillingPeriod = (typeof BILLING_PERIODS)[number];

export const tierSchema = z.enum(TIERS).meta({
  id: 'Tier',
  description: 'The plan of a subscription.',
  examples: ['api_builder'],
});

export const billingPeriodSchema = z.enum(BILLING_PERIODS).meta({
  id: 'BillingPeriod',
  description: 'How often the subscription renews.',
  examples: ['monthly'],
});

/** The lookup key under which Stripe holds the price of a tier and period. */
export function lookupKey<T extends Tier, P extends BillingPeriod>(tier: T, period: P) {
  return `driftstack_${tier}_${period}` as const;
}

export type CatalogueEntry = {
  readonly tier: Tier;
  readonly billingPeriod: BillingPeriod;
  readonly lookupKey: string;
  readonly amountCents: number;
};

/**
 * What one month of each tier costs when we create its price, in US cents.
 * The prices held by Stripe are what customers pay; this is only where they start.
 */
const MONTHLY_AMOUNT_CENTS = {
  api_starter: 2_900,
  solo_manual: 7_900,
  api_builder: 9_900,
  team_manual: 19_900,
  api_scale: 39_900,
  agency_manual: 49_900,
} satisfies Record<Tier, number>;

const MONTHS_PAID = { monthly: 1, annual: 10 } satisfies Record<BillingPeriod, number>;

/** Every tier and period that can be bought, with its lookup key and its amount in US cents. */
export const CATALOGUE: readonly CatalogueEntry[] = TIERS.flatMap((tier) =>
  BILLING_PERIODS.map((billingPeriod) => ({
    tier,
    billingPeriod,
    lookupKey: lookupKey(tier, billingPeriod),
    amountCents: MONTHLY_AMOUNT_CENTS[tier] * MONTHS_PAID[billingPeriod],
  })),
);

/**
 * The trial pack: one charge of `amountCents`, spendable for `days`. At $0.18 per concurrent-hour one
 * cent buys exactly 200 concurrent-seconds, so a balance kept in seconds never needs rounding.
 */
export const TRIAL_PACK = {
  lookupKey: 'driftstack_trial_pack',
  productId: 'driftstack_trial_pack',
  amountCents: 299,
  days: 14,
  secondsPerCent: 200,
} as const;
