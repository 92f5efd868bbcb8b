import Stripe from 'stripe';
import { ProblemError } from '../../../shared/errors.ts';
import { redactSecrets } from '../../../shared/redact.ts';

/**
 * What a failed call means. `away`: Stripe is down, busy or slow, and the same call may succeed later. `refused`:
 * this request, for good, and nothing was done. `barred`: Stripe does nothing for us until somebody has mended
 * something, such as the key; what was asked may be right.
 */
export type Verdict = 'away' | 'refused' | 'barred';

/** Codes that Stripe sends with a 400 though they pass by themselves. */
const PASSING: ReadonlySet<string> = new Set(['rate_limit', 'lock_timeout', 'idempotency_key_in_use']);

/** Codes that are about this deployment and not about what it asked for. */
const BARRING: ReadonlySet<string> = new Set([
  'account_invalid',
  'api_key_expired',
  'livemode_mismatch',
  'no_account',
  'platform_api_key_expired',
  'secret_key_required',
  'testmode_charges_only',
  'tls_version_unsupported',
]);

/** Whether Stripe names a reason that is over in a moment. */
export function isPassing({ code = '' }: Pick<StripeError, 'code'>): boolean {
  return PASSING.has(code);
}

/** Judges by Stripe's status and code; whatever is not Stripe's definite word is `away`. */
export function verdictOn(error: unknown): Verdict {
  const cause = stripeErrorIn(error);
  if (cause === null || cause instanceof Stripe.errors.StripeConnectionError) return 'away';
  const { statusCode = 0, code = '' } = cause;
  // 409 is another call about the same thing just now, 424 somebody whom Stripe depends on.
  const passes = statusCode < 400 || statusCode >= 500 || [408, 409, 424, 425, 429].includes(statusCode);
  if (passes || isPassing(cause)) return 'away';
  if (statusCode === 401 || statusCode === 403 || BARRING.has(code)) return 'barred';
  // The key stands for an earlier request of ours, so something may have been done.
  if (cause instanceof Stripe.errors.StripeIdempotencyError) return 'barred';
  return 'refused';
}

/** Whether Stripe has definitely refused the request itself, so that sending it again cannot help. */
export function isRefused(error: unknown): boolean {
  return verdictOn(error) === 'refused';
}

/** Whether Stripe says that the object asked for does not exist. */
export function isMissing(error: unknown): boolean {
  const cause = stripeErrorIn(error);
  return cause !== null && (cause.code === 'resource_missing' || cause.statusCode === 404);
}

/** Whether what was refused named a customer that Stripe has not, or has deleted. */
export function isMissingCustomer(error: unknown): boolean {
  return isMissing(error) && refusedParam(error) === 'customer';
}

/** Stripe's own code for what went wrong, such as `charge_already_refunded`; null where it gave none. */
export function stripeCode(error: unknown): string | null {
  return stripeErrorIn(error)?.code ?? null;
}

/** The parameter that Stripe refused, such as `line_items[0][price]`; null where it named none. */
export function refusedParam(error: unknown): string | null {
  return stripeErrorIn(error)?.param ?? null;
}

/** What an operator needs to find the call at Stripe and to see what was wrong with it. */
export function refusalDetails(error: unknown): Readonly<Record<string, string | number>> {
  const cause = stripeErrorIn(error);
  if (cause === null) return { reason: error instanceof Error ? error.message : String(error) };
  const { message, statusCode, code, param, requestId } = cause;
  return {
    // Stripe repeats most of a key that it does not know, and others all of it.
    reason: redactSecrets(message),
    ...(statusCode !== undefined && { status: statusCode }),
    ...(code !== undefined && { code }),
    ...(param !== undefined && { param }),
    ...(requestId !== undefined && { stripe_request_id: requestId }),
  };
}

/** The problem a caller may see. Stripe's own words name ids and keys, so they stay in the cause. */
export function translate(error: unknown): ProblemError {
  if (error instanceof ProblemError) return error;
  if (!(error instanceof Stripe.errors.StripeError)) {
    return new ProblemError('internal', 'Stripe could not be called.', { status: 502, cause: error });
  }
  switch (verdictOn(error)) {
    case 'away':
      return comeBack(error);
    case 'barred':
      return new ProblemError('feature-unavailable', whyBarred(error), { cause: error });
    case 'refused':
      return refused(error);
  }
}

type StripeError = InstanceType<typeof Stripe.errors.StripeError>;

function stripeErrorIn(error: unknown): StripeError | null {
  const cause = error instanceof ProblemError ? error.cause : error;
  return cause instanceof Stripe.errors.StripeError ? cause : null;
}

function comeBack(error: StripeError): ProblemError {
  if (error.statusCode === 429 || isPassing(error)) {
    return new ProblemError('internal', 'Stripe is receiving too many requests. Please try again shortly.', {
      status: 503,
      retryAfterSeconds: Math.ceil(Number(error.headers?.['retry-after'])) || 5,
      cause: error,
    });
  }
  if (error instanceof Stripe.errors.StripeConnectionError) {
    return new ProblemError('internal', 'Stripe could not be reached. Please try again shortly.', {
      status: error.message.includes('timeout') ? 504 : 503,
      retryAfterSeconds: 5,
      cause: error,
    });
  }
  return new ProblemError('internal', 'Stripe could not carry out the request. Please try again shortly.', {
    status: 502,
    retryAfterSeconds: 5,
    cause: error,
  });
}

function whyBarred(error: StripeError): string {
  const mend = (what: string) => `${what} Trying again does not help until the operator has mended it.`;
  if (error instanceof Stripe.errors.StripeIdempotencyError)
    return mend('An earlier call to Stripe for the same thing asked for something else.');
  if (error.statusCode === 403)
    return mend('The STRIPE_SECRET_KEY of this deployment lacks a permission that this call needs.');
  if (error.code === 'testmode_charges_only' || error.code === 'account_invalid')
    return mend('The Stripe account of this deployment is not activated for this.');
  return mend('Stripe does not accept the STRIPE_SECRET_KEY of this deployment.');
}

const OURS_TO_MEND = 'Trying again does not help until the operator of this deployment has mended it.';

/** What stands in a field of the caller's, or of its account, is theirs to change; the rest is the operator's. */
function refused(error: StripeError): ProblemError {
  const { code, param } = error;
  if (code === 'email_invalid' || param === 'email') {
    return invalid('email', 'of this account is not an address that Stripe accepts: have it changed', error);
  }
  if (param !== undefined && REDIRECTS.has(param)) {
    return invalid(param, 'is not an address that Stripe accepts', error);
  }
  const named = [code, param].filter((name) => name !== undefined).join(', ');
  const what = `Stripe has refused what this deployment asks for${named && ` (${named})`}.`;
  return new ProblemError('feature-unavailable', `${what} ${OURS_TO_MEND}`, { cause: error });
}

const REDIRECTS: ReadonlySet<string> = new Set(['success_url', 'cancel_url', 'return_url']);

function invalid(field: string, message: string, cause: StripeError): ProblemError {
  return new ProblemError('validation-failed', `${field} ${message}.`, {
    errors: [{ field, message }],
    cause,
  });
}

/** The same refusal where it was the operator who had configured the address. */
export function asOperators(error: ProblemError): ProblemError {
  const detail = `Stripe does not accept the configured ${refusedParam(error) ?? 'address'}. ${OURS_TO_MEND}`;
  return new ProblemError('feature-unavailable', detail, { cause: error.cause });
}
