import { type ConflictCode, ProblemError } from '../../shared/errors.ts';
import type { Meta } from './init.ts';
import { type ErrorResponse, example } from './openapi-example.ts';
import { transportErrors } from './openapi-transport.ts';

/** Everything that a call with this meta can be refused with, by status. */
export function errorResponses(
  { scope, bucket, openapi }: Meta,
  operationId: string,
): Map<number, ErrorResponse> {
  const minting = bucket === 'minting';
  const callsStripe = minting || operationId === 'getBillingState';
  return new Map([
    [400, invalid(operationId, minting)],
    [401, UNAUTHORIZED],
    [
      403,
      {
        description: `The API key lacks the scope \`${scope}\`.`,
        examples: [
          example(
            'forbidden',
            new ProblemError('forbidden', `This call needs the scope ${scope}, which this API key lacks.`),
          ),
        ],
      },
    ],
    ...(operationId === 'getBillingState' ? [[404, NOT_FOUND] as const] : []),
    ...(openapi.path.includes('{id}') ? [[404, notFound(openapi.path)] as const] : []),
    ...(openapi.method === 'POST' ? [[409, conflicts(operationId)] as const] : []),
    ...transportErrors(openapi.method),
    [429, RATE_LIMITED],
    [500, FAULT],
    ...(callsStripe
      ? [[502, stripe('Stripe did not carry out the call.', 'could not carry out the request', 502)] as const]
      : []),
    [503, minting ? UNAVAILABLE_OR_NOT_CONFIGURED : UNAVAILABLE],
    ...(callsStripe
      ? [[504, stripe('Stripe did not answer in time.', 'did not answer in time', 504)] as const]
      : []),
  ]);
}

/** The field that the example of a refusal is about. */
const FIELDS: Readonly<Record<string, string>> = {
  getBillingState: 'checkout_session_id',
  startPortalSession: 'return_url',
  listAuditLog: 'limit',
  listTrialPackUsage: 'limit',
  listBillingEvents: 'limit',
  listWebhookEndpoints: 'limit',
  listWebhookDeliveries: 'limit',
  createWebhookEndpoint: 'url',
  updateWebhookEndpoint: 'url',
};

function invalid(operationId: string, minting: boolean): ErrorResponse {
  const field = FIELDS[operationId] ?? (minting ? 'success_url' : 'id');
  const message = 'is not on the allowlist of redirect addresses of this deployment';
  const wrong =
    field === 'limit' ? { field, message: 'must be at most 100' } : { field, message: 'must be a string' };
  return {
    description: 'The call is malformed; `errors` names the fields at fault.',
    examples: [
      example(
        'A field is not as it must be',
        new ProblemError('validation-failed', `${wrong.field} ${wrong.message}.`, { errors: [wrong] }),
      ),
      ...(minting
        ? [
            example(
              'An address is not on the allowlist of the deployment',
              new ProblemError('validation-failed', `${field} ${message}.`, {
                code: 'redirect_url_not_allowed',
                errors: [{ field, message }],
              }),
            ),
            example('The body cannot be read', new ProblemError('bad-request', 'The body is not JSON.')),
          ]
        : []),
    ],
  };
}

const UNAUTHORIZED: ErrorResponse = {
  description: 'There is no API key, or it cannot be used.',
  examples: [
    example(
      'No key',
      new ProblemError('unauthorized', 'Send your API key as "Authorization: Bearer ds_live_…".'),
    ),
    example(
      'Unknown key',
      new ProblemError('invalid-key', 'This API key does not exist. Check that it is complete.'),
    ),
    example('Revoked key', new ProblemError('revoked-key', 'This API key was revoked. Use another one.')),
    example('Expired key', new ProblemError('expired-key', 'This API key has expired. Use another one.')),
  ],
};

const NOT_FOUND: ErrorResponse = {
  description: 'The account has no such Checkout session.',
  examples: [
    example(
      'Not a session of this account',
      new ProblemError('not-found', 'This account has no such Checkout session.'),
    ),
  ],
};

function notFound(path: string): ErrorResponse {
  const what = path.startsWith('/v1/webhook-deliveries/') ? 'webhook delivery' : 'webhook endpoint';
  const detail = `This account has no such ${what}.`;
  return {
    description: `${detail} Those of other accounts are answered the same.`,
    examples: [example('Unknown, or of another account', new ProblemError('not-found', detail))],
  };
}

const TOO_MANY_WAITING: [ConflictCode, string] = [
  'too_many_deliveries_waiting',
  '10000 deliveries to this endpoint wait already. Try again when some of them have been sent.',
];

const CONFLICTS: Readonly<Record<string, readonly [ConflictCode, string][]>> = {
  startCheckoutSession: [
    ['already_subscribed', 'This account already has a subscription. Change it in the customer portal.'],
  ],
  startTrialPack: [
    ['trial_pack_already_redeemed', 'This account has already bought its trial pack.'],
    ['trial_pack_payment_pending', 'The payment for the trial pack is still being processed.'],
  ],
  createWebhookEndpoint: [
    ['too_many_webhook_endpoints', 'An account can have 10 webhook endpoints. Delete one first.'],
  ],
  testWebhookEndpoint: [TOO_MANY_WAITING],
  replayWebhookEvents: [TOO_MANY_WAITING],
  replayWebhookDelivery: [TOO_MANY_WAITING],
  startPortalSession: [
    ['no_billing_customer', 'This account has not bought anything yet, so there is nothing to manage.'],
  ],
};

function conflicts(operationId: string): ErrorResponse {
  const own = (CONFLICTS[operationId] ?? []).map(([code, detail]) =>
    example(code.replaceAll('_', ' '), new ProblemError('conflict', detail, { code })),
  );
  return {
    description: 'The state of the account or the Idempotency-Key does not allow it; `code` says which.',
    examples: [
      ...own,
      example(
        'The Idempotency-Key belongs to another request',
        new ProblemError('conflict', 'This Idempotency-Key was used for another request.', {
          code: 'idempotency_key_reused',
          idempotency_status: 'mismatch',
        }),
      ),
      example(
        'The first request with this Idempotency-Key is still running',
        new ProblemError('conflict', 'A request with this Idempotency-Key is still running.', {
          code: 'idempotency_key_in_use',
          idempotency_status: 'in_progress',
        }),
      ),
    ],
  };
}

const RATE_LIMITED: ErrorResponse = {
  description: 'Too many calls. Wait as long as `Retry-After` says.',
  retryAfter: true,
  examples: [
    example(
      'Too many calls',
      new ProblemError('rate-limited', 'This account has made too many calls. Please wait 2 seconds.', {
        retryAfterSeconds: 2,
      }),
    ),
  ],
};

const FAULT: ErrorResponse = {
  description: 'A fault of ours. The call can be repeated.',
  examples: [
    example('Fault', new ProblemError('internal', 'Something went wrong on our side. Please try again.')),
  ],
};

const UNAVAILABLE: ErrorResponse = {
  description: 'Something we depend on is away, or there is too much to do. The call can be repeated.',
  retryAfter: true,
  examples: [
    example(
      'Not now',
      new ProblemError('internal', 'The database does not answer just now. Please try again shortly.', {
        status: 503,
        retryAfterSeconds: 1,
      }),
    ),
  ],
};

const UNAVAILABLE_OR_NOT_CONFIGURED: ErrorResponse = {
  ...UNAVAILABLE,
  description: `${UNAVAILABLE.description} With \`feature-unavailable\` it is not configured, and repeating does not help.`,
  examples: [
    ...UNAVAILABLE.examples,
    example(
      'Not configured',
      new ProblemError('feature-unavailable', 'Stripe does not accept the secret key of this deployment.'),
    ),
  ],
};

function stripe(description: string, what: string, status: 502 | 504): ErrorResponse {
  return {
    description: `${description} The call can be repeated, best with the same Idempotency-Key.`,
    retryAfter: true,
    examples: [
      example(
        description,
        new ProblemError('internal', `Stripe ${what}. Please try again shortly.`, {
          status,
          retryAfterSeconds: 5,
        }),
      ),
    ],
  };
}
