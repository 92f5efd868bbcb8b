import { z } from 'zod';
import { redactSecrets } from './redact.ts';

/** The addresses in `type` begin with this; they are names first, pages second. */
export const ERROR_BASE = 'https://errors.driftstack.dev/';

/** Every kind of refusal: its HTTP status, its tRPC code and its title. */
export const PROBLEMS = {
  'bad-request': { status: 400, trpc: 'BAD_REQUEST', title: 'Bad request' },
  'validation-failed': { status: 400, trpc: 'BAD_REQUEST', title: 'Validation failed' },
  unauthorized: { status: 401, trpc: 'UNAUTHORIZED', title: 'Unauthorized' },
  'invalid-key': { status: 401, trpc: 'UNAUTHORIZED', title: 'Invalid API key' },
  'revoked-key': { status: 401, trpc: 'UNAUTHORIZED', title: 'Revoked API key' },
  'expired-key': { status: 401, trpc: 'UNAUTHORIZED', title: 'Expired API key' },
  forbidden: { status: 403, trpc: 'FORBIDDEN', title: 'Forbidden' },
  'not-found': { status: 404, trpc: 'NOT_FOUND', title: 'Not found' },
  'method-not-allowed': { status: 405, trpc: 'METHOD_NOT_SUPPORTED', title: 'Method not allowed' },
  'request-timeout': { status: 408, trpc: 'TIMEOUT', title: 'Request timeout' },
  conflict: { status: 409, trpc: 'CONFLICT', title: 'Conflict' },
  'payload-too-large': { status: 413, trpc: 'PAYLOAD_TOO_LARGE', title: 'Payload too large' },
  'unsupported-media-type': {
    status: 415,
    trpc: 'UNSUPPORTED_MEDIA_TYPE',
    title: 'Unsupported media type',
  },
  'expectation-failed': { status: 417, trpc: 'BAD_REQUEST', title: 'Expectation failed' },
  'headers-too-large': { status: 431, trpc: 'BAD_REQUEST', title: 'Headers too large' },
  'rate-limited': { status: 429, trpc: 'TOO_MANY_REQUESTS', title: 'Rate limited' },
  internal: { status: 500, trpc: 'INTERNAL_SERVER_ERROR', title: 'Internal error' },
  'feature-unavailable': { status: 503, trpc: 'SERVICE_UNAVAILABLE', title: 'Feature unavailable' },
} as const;
export type ProblemSlug = keyof typeof PROBLEMS;

/** The `code` of each 409. */
export const CONFLICT_CODES = [
  'already_subscribed',
  'trial_pack_already_redeemed',
  'trial_pack_payment_pending',
  'subscription_payment_pending',
  'no_billing_customer',
  'idempotency_key_reused',
  'idempotency_key_in_use',
  'idempotency_answer_lost',
  'concurrent_change',
  'email_taken',
  'no_trial_pack',
  'report_id_reused',
  'reservation_id_reused',
  'reservation_closed',
  'too_many_webhook_endpoints',
  'too_many_deliveries_waiting',
] as const;
export type ConflictCode = (typeof CONFLICT_CODES)[number];

/** Codes finer than the slug. A problem without one of these carries its slug, with underscores. */
export type ProblemCode =
  | ConflictCode
  | 'redirect_url_not_allowed'
  | 'redirect_url_required'
  | 'webhook_url_not_allowed'
  | 'webhook_endpoint_paused';

export const fieldErrorSchema = z
  .strictObject({
    field: z.string().meta({
      description: 'The field at fault, with dots between levels; empty for the body as a whole.',
      examples: ['success_url'],
    }),
    message: z.string().meta({
      description: 'What is wrong with it and what would be right.',
      examples: ['is not on the allowlist of this deployment'],
    }),
  })
  .meta({ id: 'FieldError', description: 'One field that was refused, and why.' });
export type FieldError = z.infer<typeof fieldErrorSchema>;

export const problemSchema = z
  .looseObject({
    type: z.string().meta({
      format: 'uri',
      description: 'The stable identifier of this kind of problem. Branch on this or on `code`.',
      examples: [`${ERROR_BASE}conflict`],
    }),
    title: z.string().meta({ description: 'The kind of problem in words.', examples: ['Conflict'] }),
    status: z
      .int()
      .min(400)
      .max(599)
      .meta({ description: 'The HTTP status.', examples: [409] }),
    detail: z.string().meta({
      description: 'What happened this time and how to fix the call.',
      examples: ['This account already has a subscription. Change it in the customer portal.'],
    }),
    instance: z.string().meta({
      description: 'The id of this request. Quote it when you ask for help.',
      examples: ['req_01890a5d-ac96-774b-bcce-b302099a8057'],
    }),
    code: z.string().meta({
      description: 'A stable code, finer than `type` where callers need to tell cases apart.',
      examples: ['already_subscribed'],
    }),
    errors: z
      .array(fieldErrorSchema)
      .optional()
      .meta({ description: 'The fields at fault, when the problem is `validation-failed`.' }),
    retry_after_seconds: z
      .int()
      .min(0)
      .optional()
      .meta({ description: 'How many seconds to wait before trying again.', examples: [2] }),
    idempotency_status: z
      .enum(['mismatch', 'in_progress'])
      .optional()
      .meta({ description: 'Why an Idempotency-Key was refused.', examples: ['mismatch'] }),
  })
  .meta({
    id: 'Problem',
    description: 'An error as RFC 9457 describes it, sent as `application/problem+json`.',
    examples: [
      {
        type: `${ERROR_BASE}conflict`,
        title: 'Conflict',
        status: 409,
        detail: 'This account already has a subscription. Change it in the customer portal.',
        instance: 'req_01890a5d-ac96-774b-bcce-b302099a8057',
        code: 'already_subscribed',
      },
    ],
  });
export type Problem = z.infer<typeof problemSchema>;

export type ProblemOptions = {
  code?: ProblemCode;
  /** Only for `internal`, when waiting helps: 503 for an outage of something we depend on. */
  status?: 502 | 503 | 504;
  errors?: readonly FieldError[];
  retryAfterSeconds?: number;
  idempotency_status?: 'mismatch' | 'in_progress';
  /** What was caught; for the log, never shown to the caller. */
  cause?: unknown;
};

/** The one error a caller may see: its detail is written for them and carries no internals. */
export class ProblemError extends Error {
  override readonly name = 'ProblemError';
  readonly slug: ProblemSlug;
  readonly status: number;
  readonly code: string;
  readonly options: Readonly<ProblemOptions>;

  constructor(slug: ProblemSlug, detail: string, options: ProblemOptions = {}) {
    super(detail, { cause: options.cause });
    this.slug = slug;
    this.status = options.status ?? PROBLEMS[slug].status;
    this.code = options.code ?? slug.replaceAll('-', '_');
    this.options = options;
  }

  /** The document for the wire; `instance` is the request id. */
  toProblem(instance: string): Problem {
    const { errors, retryAfterSeconds, idempotency_status } = this.options;
    return {
      type: `${ERROR_BASE}${this.slug}`,
      title: PROBLEMS[this.slug].title,
      status: this.status,
      detail: redactSecrets(this.message),
      instance,
      code: this.code,
      ...(errors && {
        errors: errors.map(({ field, message }) => ({
          field: redactSecrets(field),
          message: redactSecrets(message),
        })),
      }),
      ...(retryAfterSeconds !== undefined && { retry_after_seconds: retryAfterSeconds }),
      ...(idempotency_status && { idempotency_status }),
    };
  }
}
