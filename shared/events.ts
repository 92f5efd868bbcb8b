import { z } from 'zod';
import { subscriptionStateSchema, trialPackStateSchema } from './billing.ts';
import { wireTimeSchema } from './time.ts';

/** Everything that customers are told of, by webhook and in the event feed. */
export const EVENT_TYPES = [
  'subscription.changed',
  'subscription.cancelled',
  'trial_pack.purchased',
  'trial_pack.expired',
] as const;
export type EventType = (typeof EVENT_TYPES)[number];

/** What a test delivery carries. Nobody subscribes to it, and it is not in the feed. */
export const TEST_EVENT_TYPE = 'test.ping';

const subscriptionNews = z.strictObject({
  subscription: subscriptionStateSchema.meta({
    id: 'EventSubscription',
    description: 'The subscription as it is now.',
  }),
  previous: subscriptionStateSchema.partial().nullable().meta({
    description: 'The fields that changed, as they were before; null when there was no subscription before.',
  }),
});

const trialPackNews = z.strictObject({
  trial_pack: trialPackStateSchema.meta({
    id: 'EventTrialPack',
    description: 'The trial pack as it is now.',
  }),
  previous: trialPackStateSchema.partial().nullable().meta({
    description: 'The fields that changed, as they were before; null when there was no trial pack before.',
  }),
});

/** What each event says, by its type. */
export const EVENT_DATA = {
  'subscription.changed': subscriptionNews,
  'subscription.cancelled': subscriptionNews,
  'trial_pack.purchased': trialPackNews,
  'trial_pack.expired': trialPackNews,
} as const satisfies Record<EventType, z.ZodType>;

/** An event before it has a place in the feed. */
export type EventNews = {
  [T in EventType]: { readonly type: T; readonly data: z.infer<(typeof EVENT_DATA)[T]> };
}[EventType];

const id = z.string().meta({
  description:
    'The id of the event, the same in the feed and on every try of every delivery. Handle each once.',
  examples: ['evt_01890a5d-ac96-774b-bcce-b302099a8057'],
});
const accountId = z.string().meta({
  description: 'The account it happened to.',
  examples: ['acc_01890a5d-ac96-774b-bcce-b302099a8057'],
});
const emittedAt = wireTimeSchema.meta({
  description: 'When we recorded it, which can be later than it happened at Stripe.',
  examples: ['2026-05-01T00:00:00Z'],
});

/** The body of a webhook delivery, by the type of its event. */
export const WEBHOOK_BODIES = {
  'subscription.changed': bodyOf('subscription.changed', subscriptionNews).meta({
    id: 'SubscriptionChanged',
    description:
      'Something about the subscription is different: it started, changed its tier, status or period, ' +
      'is to end or not to end any more, renewed, or ended.',
  }),
  'subscription.cancelled': bodyOf('subscription.cancelled', subscriptionNews).meta({
    id: 'SubscriptionCancelled',
    description: 'The subscription has ended. `subscription.changed` tells of the same change.',
  }),
  'trial_pack.purchased': bodyOf('trial_pack.purchased', trialPackNews).meta({
    id: 'TrialPackPurchased',
    description: 'The trial pack was paid for.',
  }),
  'trial_pack.expired': bodyOf('trial_pack.expired', trialPackNews).meta({
    id: 'TrialPackExpired',
    description: 'The 14 days of the trial pack are over.',
  }),
} as const satisfies Record<EventType, z.ZodType>;

/** The body of a webhook delivery. Test deliveries, of type `test.ping`, are not among them. */
export const webhookBodySchema = z.discriminatedUnion('type', [
  WEBHOOK_BODIES['subscription.changed'],
  WEBHOOK_BODIES['subscription.cancelled'],
  WEBHOOK_BODIES['trial_pack.purchased'],
  WEBHOOK_BODIES['trial_pack.expired'],
]);
export type WebhookBody = z.infer<typeof webhookBodySchema>;

function bodyOf<T extends EventType, D extends z.ZodType>(type: T, data: D) {
  return z.strictObject({ id, type: z.literal(type), account_id: accountId, emitted_at: emittedAt, data });
}

export const sequenceSchema = z
  .int()
  .min(0)
  .meta({
    description: 'The place of the event in the feed of its account: 1, 2, 3 … without gaps.',
    examples: [7],
  });

const place = { sequence: sequenceSchema };
const feedEventSchema = z
  .discriminatedUnion('type', [
    WEBHOOK_BODIES['subscription.changed'].extend(place),
    WEBHOOK_BODIES['subscription.cancelled'].extend(place),
    WEBHOOK_BODIES['trial_pack.purchased'].extend(place),
    WEBHOOK_BODIES['trial_pack.expired'].extend(place),
  ])
  .meta({
    id: 'BillingEvent',
    description: 'An event of the feed: what a webhook would carry, and its place.',
  });
export type BillingEvent = z.infer<typeof feedEventSchema>;

/** The input of `events.list`. */
export const eventListInput = z
  .strictObject({
    after: z
      .int()
      .min(0)
      .default(0)
      .meta({
        description: 'The sequence of the last event you have handled; 0 for all of them.',
        examples: [0],
      }),
    limit: z
      .int()
      .min(1)
      .max(100)
      .default(50)
      .meta({ description: 'How many events to return, 1 to 100.', examples: [50] }),
  })
  .prefault({})
  .meta({ description: 'From where to read on.' });
export type EventListInput = z.infer<typeof eventListInput>;

/** The output of `events.list`. */
export const eventListResult = z
  .strictObject({
    data: z.array(feedEventSchema).meta({ description: 'The events, oldest first.' }),
    has_more: z.boolean().meta({
      description: 'Whether there are events after these already.',
      examples: [false],
    }),
  })
  .meta({
    id: 'BillingEventPage',
    description: 'A part of the event feed, oldest first. Read on with the last `sequence` as `after`.',
    examples: [
      {
        data: [
          {
            sequence: 1,
            id: 'evt_01890a5d-ac96-774b-bcce-b302099a8057',
            type: 'trial_pack.purchased',
            account_id: 'acc_01890a5d-ac96-774b-bcce-b302099a8057',
            emitted_at: '2026-05-01T00:00:00Z',
            data: {
              trial_pack: {
                active: true,
                credit_cents_remaining: 299,
                expires_at: '2026-05-15T00:00:00Z',
                redeemed: true,
              },
              previous: null,
            },
          },
        ],
        has_more: false,
      },
    ],
  });
export type EventListResult = z.infer<typeof eventListResult>;
