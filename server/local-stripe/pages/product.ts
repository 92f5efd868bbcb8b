import { z } from 'zod';

/** Where the product's own view of its accounts is read, when the local Stripe runs beside it. */
export interface Product {
  readonly baseUrl: string;
  readonly token: string;
}

const subscription = z.object({
  id: z.string(),
  tier: z.string().nullable(),
  status: z.string(),
  billing_period: z.string().nullable(),
  current_period_end: z.string().nullable(),
  cancel_at_period_end: z.boolean(),
});

const trialPack = z.object({
  active: z.boolean(),
  credit_cents_remaining: z.number(),
  expires_at: z.string().nullable(),
  redeemed: z.boolean(),
});

const standing = z.object({
  entitled: z.boolean(),
  ends_at: z.string().nullable(),
  ended_at: z.string().nullable(),
  booked: z.string().nullable(),
});

const waiting = z.object({ what: z.string(), state: z.string(), count: z.number() });

const endpoint = z.object({
  id: z.string(),
  url: z.string(),
  events: z.array(z.string()),
  active: z.boolean(),
  delivery_counts: z.object({ delivered: z.number(), failed: z.number(), dlq: z.number() }),
  deliveries: z.array(
    z.object({
      id: z.string(),
      event_type: z.string(),
      status: z.string(),
      attempts: z.number(),
      response_status: z.number().nullable(),
      response_excerpt: z.string().nullable(),
      error: z.string().nullable(),
      created_at: z.string(),
      payload: z.unknown(),
    }),
  ),
});

const account = z.object({
  account_id: z.string(),
  email: z.string().nullable(),
  stripe_customer_id: z.string().nullable(),
  billing_state: z.object({ subscription: subscription.nullable(), trial_pack: trialPack }).nullable(),
  standing: standing.nullable().default(null),
  audit: z.array(
    z.object({
      action: z.string(),
      timestamp: z.string(),
      payload: z.unknown(),
      actor_type: z.string().optional(),
    }),
  ),
  emails: z.array(z.object({ template: z.string(), state: z.string(), created_at: z.string() })),
  webhooks: z.array(endpoint).default([]),
});

const overview = z.object({
  accounts: z.array(account),
  waiting: z.array(waiting),
  events: z.array(
    z.object({
      id: z.string(),
      type: z.string(),
      state: z.string(),
      error: z.string().nullable(),
      received_at: z.string(),
    }),
  ),
});

export type ProductOverview = z.output<typeof overview>;
export type ProductAccount = z.output<typeof account>;
export type ProductEndpoint = z.output<typeof endpoint>;
export type ProductWaiting = z.output<typeof waiting>;

export type ProductView =
  | { readonly state: 'none' }
  | { readonly state: 'unreachable'; readonly why: string }
  | { readonly state: 'ok'; readonly overview: ProductOverview };

/** Asks the product for its accounts, audit log, events and what waits. Never throws: the console shows what is wrong. */
export async function readProduct(product: Product | null, timeoutMs = 2000): Promise<ProductView> {
  if (!product) return { state: 'none' };
  try {
    const answer = await fetch(`${product.baseUrl}/internal/console/accounts`, {
      headers: { authorization: `Bearer ${product.token}`, accept: 'application/json' },
      signal: AbortSignal.timeout(timeoutMs),
    });
    if (!answer.ok) return { state: 'unreachable', why: `It answered ${answer.status}.` };
    const parsed = overview.safeParse(await answer.json());
    if (!parsed.success)
      return { state: 'unreachable', why: `Its answer was not understood: ${z.prettifyError(parsed.error)}` };
    return { state: 'ok', overview: parsed.data };
  } catch (error) {
    // A product that is starting, stopping or being debugged is normal here; the page says so and tries again.
    return { state: 'unreachable', why: error instanceof Error ? error.message : 'It did not answer.' };
  }
}
