export type StripeErrorType =
  | 'invalid_request_error'
  | 'card_error'
  | 'api_error'
  | 'idempotency_error'
  | 'rate_limit_error'
  | 'authentication_error';

export interface StripeErrorFields {
  readonly status: number;
  readonly type: StripeErrorType;
  readonly message: string;
  readonly code?: string;
  readonly param?: string;
  readonly declineCode?: string;
  /** Further members of the `error` object, such as `payment_intent` on a declined confirmation. */
  readonly extra?: Readonly<Record<string, unknown>>;
  /** The id under which there is nothing. Where it is the address that names it, the answer is 404. */
  readonly missingId?: string;
  /** What was changed before the refusal stays, as a declined payment leaves its charge. Otherwise it is undone. */
  readonly keepsChanges?: boolean;
}

/** A refusal in Stripe's own form. The HTTP layer turns it into `{ error: { type, code, message, param } }`. */
export class StripeError extends Error {
  readonly fields: StripeErrorFields;

  constructor(fields: StripeErrorFields) {
    super(fields.message);
    this.name = 'StripeError';
    this.fields = fields;
  }
}

/** 400 `invalid_request_error`, the commonest refusal. */
export function invalidRequest(message: string, rest: { code?: string; param?: string } = {}): StripeError {
  return new StripeError({ status: 400, type: 'invalid_request_error', message, ...rest });
}

/** `resource_missing` in Stripe's words. The HTTP layer answers 404 where the address names the id, else 400. */
export function resourceMissing(noun: string, id: string, param = 'id'): StripeError {
  return new StripeError({
    status: param === 'id' ? 404 : 400,
    missingId: id,
    type: 'invalid_request_error',
    code: 'resource_missing',
    message: `No such ${noun}: '${id}'`,
    param,
  });
}
