import { Resend } from 'resend';
import { z } from 'zod';

type OutgoingEmail = { from: string; to: string; subject: string; html: string; text: string };

/** What became of one attempt. */
export type SendResult =
  | { kind: 'accepted'; providerId: string }
  /** Not taken, and trying the same again cannot succeed. */
  | { kind: 'refused'; code: string; reason: string }
  /** Not taken, but later it may be. */
  | { kind: 'not_now'; code: string; reason: string; retryAfterMs: number | null }
  /** No answer, or none that says whether the mail was taken. */
  | { kind: 'unclear'; code: string; reason: string };

export type EmailSender = {
  /** Hands a mail over once for each key; never throws for what the provider answers or fails to. */
  send(mail: OutgoingEmail, idempotencyKey: string): Promise<SendResult>;
};

/** Sends through Resend, or whatever speaks its API at `baseUrl`. */
export function connectResend(options: { apiKey: string; baseUrl: string; timeoutMs: number }): EmailSender {
  const resend = new Resend(options.apiKey, { baseUrl: options.baseUrl.replace(/\/+$/, '') });
  return {
    async send(mail, idempotencyKey) {
      const signal = AbortSignal.timeout(options.timeoutMs);
      const result = interpret(await resend.emails.send(mail, { idempotencyKey, signal }));
      // Whoever refuses a key may repeat it, and the reason is kept in a row.
      return 'reason' in result
        ? { ...result, reason: result.reason.replaceAll(options.apiKey, '[redacted]') }
        : result;
    },
  };
}

/**
 * Resend's client resolves for everything: `error` is the body of the answer as it came, `statusCode: null`
 * where there was none. So nothing of its shape is taken on trust.
 */
function interpret(response: { data: unknown; error: unknown; headers: unknown }): SendResult {
  const accepted = acceptedSchema.safeParse(response.data);
  if (accepted.success) return { kind: 'accepted', providerId: accepted.data.id };
  const error = errorSchema.safeParse(response.error);
  if (!error.success) return { kind: 'unclear', code: 'no_answer', reason: 'Neither an id nor an error' };
  const { name: code, statusCode, message } = error.data;
  const failure = { code, reason: `${code} (${statusCode ?? 'no answer'}): ${message}` };
  if (statusCode === null || statusCode >= 500 || code === STILL_UNDER_WAY)
    return { kind: 'unclear', ...failure };
  if (statusCode === 429 || OPERATOR_REPAIRS.has(code)) {
    return { kind: 'not_now', ...failure, retryAfterMs: retryAfterMs(response.headers) };
  }
  return { kind: 'refused', ...failure };
}

const acceptedSchema = z.object({ id: z.string().min(1) });
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
