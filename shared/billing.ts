import { z } from 'zod';
import { billingPeriodSchema, tierSchema } from './catalog.ts';
import { wireTimeSchema } from './time.ts';

/** Stripe's words for where a subscription stands. */
export const SUBSCRIPTION_STATUSES = [
  'incomplete',
  'incomplete_expired',
  'trialing',
  'active',
  'past_due',
  'canceled',
  'unpaid',
  'paused',
] as const;
export type SubscriptionStatus = (typeof SUBSCRIPTION_STATUSES)[number];

export const subscriptionStatusSchema = z.enum(SUBSCRIPTION_STATUSES).meta({
  id: 'SubscriptionStatus',
  description:
    "Where the subscription stands, in Stripe's words. `active`, `trialing` and `past_due` (Stripe is still trying " +
    'to collect) entitle to `tier`. `unpaid`, `paused`, `incomplete`, `incomplete_expired` and `canceled` entitle ' +
    'to nothing.',
  examples: ['active'],
});

export const subscriptionStateSchema = z
  .strictObject({
    id: z.string().meta({
      description: 'Our id of the subscription: `sub_` and a uuid.',
      examples: ['sub_01890a5d-ac96-774b-bcce-b302099a8057'],
    }),
    tier: tierSchema.meta({
      id: 'SubscriptionTier',
      description:
        'The plan that the subscription has, or had: never gate on it without `status`. With `active`, `trialing` ' +
        'or `past_due` it is what the account may use now. With `unpaid`, `paused` or `incomplete` it is the plan ' +
        'that waits; with `canceled` or `incomplete_expired` it is the last one had. Then it grants nothing.',
    }),
    status: subscriptionStatusSchema,
    billing_period: billingPeriodSchema,
    current_period_start: wireTimeSchema.meta({
      description: 'When the current period began.',
      examples: ['2026-05-01T00:00:00Z'],
    }),
    current_period_end: wireTimeSchema.meta({
      description:
        'When the current period ends. It moves on before the renewal is paid and says nothing about what may be ' +
        'used: `status` does. Of a subscription that is over, it is the last period.',
      examples: ['2026-06-01T00:00:00Z'],
    }),
    cancel_at_period_end: z.boolean().meta({
      description:
        'True whenever the subscription will end without anybody doing anything more, be it at the end of the ' +
        'period or at another moment, which `subscription.cancel_scheduled` in the audit log says.',
      examples: [false],
    }),
  })
  .meta({ id: 'Subscription', description: 'The subscription of the account.' });

export const trialPackStateSchema = z
  .strictObject({
    active: z.boolean().meta({
      description: 'Bought, with unspent credit, inside its 14 days and not refunded.',
      examples: [false],
    }),
    credit_cents_remaining: z
      .int()
      .min(0)
      .meta({
        description: 'Unspent credit in whole US cents, rounded up: 0 exactly when nothing can be spent.',
        examples: [0],
      }),
    expires_at: wireTimeSchema.nullable().meta({
      description: 'When the credit ends; null as long as no trial pack was bought.',
      examples: [null],
    }),
    redeemed: z.boolean().meta({
      description: 'Whether a trial pack was ever paid for, whatever happened to it afterwards.',
      examples: [false],
    }),
  })
  .meta({ id: 'TrialPack', description: 'The trial pack of the account.' });

export const billingStateSchema = z
  .strictObject({
    subscription: subscriptionStateSchema.nullable().meta({
      description:
        'Null only when the account has never subscribed. One that is over stays visible with its last tier, which ' +
        'grants nothing: `status` says so.',
    }),
    trial_pack: trialPackStateSchema,
  })
  .meta({
    id: 'BillingState',
    description: 'What the account has bought.',
    examples: [
      {
        subscription: {
          id: 'sub_01890a5d-ac96-774b-bcce-b302099a8057',
          tier: 'api_builder',
          status: 'active',
          billing_period: 'monthly',
          current_period_start: '2026-05-01T00:00:00Z',
          current_period_end: '2026-06-01T00:00:00Z',
          cancel_at_period_end: false,
        },
        trial_pack: { active: false, credit_cents_remaining: 0, expires_at: null, redeemed: false },
      },
    ],
  });
export type BillingState = z.infer<typeof billingStateSchema>;

/** A URL is only measured here; whether it is on the operator's allowlist is decided where that is known. */
const redirectUrl = z.string().max(2048);

const successUrl = redirectUrl.optional().meta({
  description:
    'Where the customer lands after paying. Must be on the allowlist of the deployment. ' +
    '`{CHECKOUT_SESSION_ID}` in it is replaced by the id of the session. ' +
    'May be left out where the deployment has a default.',
  examples: ['https://your.app/billing/success?session_id={CHECKOUT_SESSION_ID}'],
});

const cancelUrl = redirectUrl.optional().meta({
  description:
    'Where the customer lands after turning back. Must be on the allowlist of the deployment. ' +
    'May be left out where the deployment has a default.',
  examples: ['https://your.app/billing/cancel'],
});

/** The input of `billing.getState`. The description stands inside `optional`, where query parameters are made from. */
export const getStateInput = z
  .strictObject({
    checkout_session_id: z
      .string()
      .regex(/^cs_[A-Za-z0-9_]{1,250}$/, 'must be the id of a Checkout session, cs_…')
      .meta({
        description:
          'The Checkout session a customer has just come back from. The account is brought up to date ' +
          'with Stripe before the answer, so there is no need to poll.',
        examples: ['cs_test_a1b2c3d4e5f6'],
      })
      .optional(),
  })
  .default({})
  .meta({ description: 'Which purchase to wait for, if any.' });

/** The input of `billing.startCheckoutSession`. */
export const checkoutSessionInput = z
  .strictObject({
    tier: tierSchema,
    billing_period: billingPeriodSchema,
    success_url: successUrl,
    cancel_url: cancelUrl,
  })
  .meta({
    id: 'CheckoutSessionInput',
    description: 'What to subscribe to and where to send the customer afterwards.',
    examples: [
      {
        tier: 'api_builder',
        billing_period: 'monthly',
        success_url: 'https://your.app/billing/success?session_id={CHECKOUT_SESSION_ID}',
        cancel_url: 'https://your.app/billing/cancel',
      },
    ],
  });

/** The input of `billing.startTrialPack`. */
export const trialPackInput = z
  .strictObject({ success_url: successUrl, cancel_url: cancelUrl })
  .default({})
  .meta({
    id: 'TrialPackInput',
    description: 'Where to send the customer after Checkout.',
    examples: [
      { success_url: 'https://your.app/billing/success', cancel_url: 'https://your.app/billing/cancel' },
    ],
  });

/** The input of `billing.startPortalSession`. */
export const portalSessionInput = z
  .strictObject({
    return_url: redirectUrl.optional().meta({
      description:
        'Where the portal leads back to. Must be on the allowlist of the deployment. ' +
        'May be left out where the deployment has a default.',
      examples: ['https://your.app/billing'],
    }),
  })
  .default({})
  .meta({
    id: 'PortalSessionInput',
    description: 'Where the portal leads back to.',
    examples: [{ return_url: 'https://your.app/billing' }],
  });

/** The output of `billing.startCheckoutSession` and `billing.startTrialPack`. */
export const checkoutSessionResult = z
  .strictObject({
    checkout_url: z.string().meta({
      format: 'uri',
      description: "Stripe's hosted page. Redirect the customer to it.",
      examples: ['https://checkout.stripe.com/c/pay/cs_test_a1b2c3d4e5f6'],
    }),
    checkout_session_id: z.string().meta({
      description: "Stripe's id of the Checkout session.",
      examples: ['cs_test_a1b2c3d4e5f6'],
    }),
  })
  .meta({
    id: 'CheckoutSession',
    description: 'A Checkout session that can be paid.',
    examples: [
      {
        checkout_url: 'https://checkout.stripe.com/c/pay/cs_test_a1b2c3d4e5f6',
        checkout_session_id: 'cs_test_a1b2c3d4e5f6',
      },
    ],
  });

/** The output of `billing.startPortalSession`. */
export const portalSessionResult = z
  .strictObject({
    portal_url: z.string().meta({
      format: 'uri',
      description:
        "Stripe's hosted Customer Portal. Single-use and short-lived: mint a fresh one for each visit.",
      examples: ['https://billing.stripe.com/p/session/test_YWNjdF8xTm9'],
    }),
  })
  .meta({
    id: 'PortalSession',
    description: 'A session in the Customer Portal.',
    examples: [{ portal_url: 'https://billing.stripe.com/p/session/test_YWNjdF8xTm9' }],
  });

export type GetStateInput = z.infer<typeof getStateInput>;
export type CheckoutSessionInput = z.infer<typeof checkoutSessionInput>;
export type TrialPackInput = z.infer<typeof trialPackInput>;
export type PortalSessionInput = z.infer<typeof portalSessionInput>;
export type CheckoutSessionResult = z.infer<typeof checkoutSessionResult>;
export type PortalSessionResult = z.infer<typeof portalSessionResult>;
