import { EVENT_TYPES, type EventType } from '../../shared/events.ts';

/** The components that describe what webhooks carry, by the type of the event. */
export const BODY_NAMES = {
  'subscription.changed': 'SubscriptionChanged',
  'subscription.cancelled': 'SubscriptionCancelled',
  'trial_pack.purchased': 'TrialPackPurchased',
  'trial_pack.expired': 'TrialPackExpired',
} as const satisfies Record<EventType, string>;

const header = (name: string, description: string, example: string) => ({
  name,
  in: 'header' as const,
  required: true,
  description,
  schema: { type: 'string' as const },
  example,
});

const EVENT_ID = 'evt_01890a5d-ac96-774b-bcce-b302099a8057';

const SIGNED = [
  header(
    'X-Driftstack-Signature',
    '`t=<unix seconds>,v1=<hex>`: HMAC-SHA256 of `<t>.<raw body>`, keyed with the whole secret. Two `v1` while a ' +
      'secret is being rotated, the newer one first.',
    't=1777593600,v1=0a1b2c',
  ),
  header('X-Driftstack-Event-Id', 'The id of the event, the same on every try.', EVENT_ID),
  header('X-Driftstack-Event-Type', 'The type of the event.', 'subscription.changed'),
  header('Webhook-Id', 'The id of the event, for libraries of Standard Webhooks.', EVENT_ID),
  header('Webhook-Timestamp', 'When this try was signed, in Unix seconds.', '1777593600'),
  header(
    'Webhook-Signature',
    '`v1,<base64>` as Standard Webhooks 1.0 says.',
    'v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=',
  ),
];

/** The `webhooks` of the document: what endpoints are sent. */
export function webhookPaths(schemas: Readonly<Record<string, object>>) {
  return Object.fromEntries(
    EVENT_TYPES.map((type) => {
      const schema = schemas[BODY_NAMES[type]];
      const description =
        schema && 'description' in schema && typeof schema.description === 'string' ? schema.description : '';
      return [
        type,
        {
          post: {
            operationId: `on${BODY_NAMES[type]}`,
            tags: ['Webhooks'],
            summary: type,
            description:
              `${description}\n\nAnswer 2xx within 10 seconds. Otherwise it is tried again after 1, 5, 15, 30 and ` +
              '60 minutes, later if you send Retry-After. 410 pauses the endpoint.',
            // Nobody authenticates to a receiver; the signature says who calls.
            security: [],
            parameters: SIGNED,
            requestBody: {
              required: true,
              content: {
                'application/json': { schema: { $ref: `#/components/schemas/${BODY_NAMES[type]}` } },
              },
            },
            responses: {
              '2XX': { description: 'You have it; it is not sent again.' },
              410: { description: 'You want no more of them: the endpoint is paused.' },
            },
          },
        },
      ];
    }),
  );
}
