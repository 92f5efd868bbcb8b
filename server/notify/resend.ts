import { Resend } from 'resend';
import { z } from 'zod';

export type OutgoingEmail = { from: string; to: string; subject: string; html: string; text: string };

/** What became of one request. */
export type SendResult =
  /** The provider's id of each mail, in their order. */
  | { kind: 'accepted'; providerIds: readonly string[] }
  /** Nothing of it was taken, and trying the same again cannot succeed. */
  | { kind: 'refused'; status: number; code: string; reason: string }
  /** Nothing of it was taken, but later it may be. */
  | { kind: 'not_now'; code: string; reason: string; retryAfterMs: number | null }
  /** No answer, or none that says whether it was taken. */
  | { kind: 'unclear'; code: string; reason: string };

/**
 * Hands mails over once for each key: the same mails again under the same key send nothing again, other mails are
 * refused. Never throws for what the provider answers or fails to.
 */
export type EmailSender = {
  send(mail: OutgoingEmail, idempotencyKey: string): Promise<SendResult>;
  /** Up to a hundred, all of them or none. */
  sendBatch(mails: readonly OutgoingEmail[], idempotencyKey: string): Promise<SendResult>;
};

/** Sends through Resend, or whatever speaks its API at `baseUrl`. */
export function connectResend(options: { apiKey: string; baseUrl: string; timeoutMs: number }): EmailSender {
  const resend = new Resend(options.apiKey, { baseUrl: options.baseUrl.replace(/\/+$/, '') });
  const patience = () => AbortSignal.timeout(options.timeoutMs);
  // Whoever refuses a key may repeat it, and the reason is kept in a row.
  const told = (result: SendResult): SendResult =>
    'reason' in result
      ? { ...result, reason: result.reason.replaceAll(options.apiKey, '[redacted]') }
      : result;
  return {
    async send(mail, idempotencyKey) {
      const response = await resend.emails.send(mail, { idempotencyKey, signal: patience() });
      const accepted = acceptedSchema.safeParse(response.data);
      return told(interpret(response, accepted.success ? [accepted.data.id] : null));
    },
    async sendBatch(mails, idempotencyKey) {
      const settings = { idempotencyKey, signal: patience(), batchValidation: 'strict' } as const;
      const response = await resend.batch.send([...mails], settings);
      const accepted = acceptedBatchSchema.safeParse(response.data);
      const ids = accepted.success ? accepted.data.data.map(({ id }) => id) : null;
      return told(interpret(response, ids?.length === mails.length ? ids : null));
    },
  };
}

/**
 * Resend's client resolves for everything: `error` is the body of the answer as it came, `statusCode: null`
 * where there was none. So nothing of its shape is taken on trust.
 */
function interpret(
  response: { error: unknown; headers: unknown },
  providerIds: readonly string[] | null,
): SendResult {
  if (providerIds !== null) return { kind: 'accepted', providerIds };
  const error = errorSchema.safeParse(response.error);
  if (!error.success)
    return { kind: 'unclear', code: 'no_answer', reason: 'Neither an id for each mail nor an error' };
  const { name: code, statusCode, message } = error.data;
  const failure = { code, reason: `${code} (${statusCode ?? 'no answer'}): ${message}` };
  if (statusCode === null || statusCode >= 500 || statusCode === 408 || code === STILL_UNDER_WAY)
    return { kind: 'unclear', ...failure };
  if (statusCode === 429 || OPERATOR_REPAIRS.has(code)) {
    return { kind: 'not_now', ...failure, retryAfterMs: retryAfterMs(response.headers) };
  }
  return { kind: 'refused', status: statusCode, ...failure };
}

const acceptedSchema = z.object({ id: z.string().min(1) });
const acceptedBatchSchema = z.object({ data: z.array(acceptedSchema) });
const errorSchema = z.object({ name: z.string(), statusCode: z.int().nullable(), message: z.string() });

/** An earlier attempt with this key has not ended yet. */
const STILL_UNDER_WAY = 'concurrent_idempotent_requests';

/** The mail is well; it is the key or the sender's domain that somebody has to repair. */
const OPERATOR_REPAIRS: ReadonlySet<string> = new Set([
  'missing_api_key',
  'invalid_api_key',
  'restricted_api_key',
  'invalid_access',
]);

function retryAfterMs(headers: unknown): number | null {
  const parsed = headersSchema.safeParse(headers);
  return parsed.success ? parsed.data['retry-after'] * 1_000 : null;
}

const headersSchema = z.object({ 'retry-after': z.coerce.number().min(0).max(86_400) });
