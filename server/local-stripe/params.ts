import type Stripe from 'stripe';
import { z } from 'zod';

/** Parameters of a request or of a nested hash: a name that is not listed is refused, as Stripe does. */
export const params = z.strictObject;

/** A string of 1 to 5000 characters. Where '' unsets, wrap it in `emptyable`. */
export const text = z.string().min(1).max(5_000);

/** A whole number written in decimal digits. */
export const int = z.string().transform((value, context) => {
  if (/^[+-]?\d{1,15}$/.test(value)) return Number(value);
  return refuse(context, `Invalid integer: ${value}`, 'parameter_invalid_integer');
});

/** A whole number within bounds, both included. */
export const intBetween = (least: number, most: number) =>
  int.transform((value, context) => {
    if (value < least)
      return refuse(
        context,
        `This value must be greater than or equal to ${least}.`,
        'parameter_invalid_integer',
      );
    if (value > most)
      return refuse(
        context,
        `This value must be less than or equal to ${most}.`,
        'parameter_invalid_integer',
      );
    return value;
  });

/** `true` or `false`. */
export const bool = z.string().transform((value, context) => {
  if (value === 'true' || value === 'false') return value === 'true';
  return refuse(context, `Invalid boolean: ${value}`);
});

/** Unix seconds. */
export const timestamp = z.string().transform((value, context) => {
  if (/^\d{1,11}$/.test(value)) return Number(value);
  return refuse(context, `Invalid timestamp: ${value}; must be an integer Unix timestamp`);
});

/** Unix seconds, or the word `now`. */
export const timestampOrNow = z.string().transform((value, context) => {
  if (value === 'now') return value;
  if (/^\d{1,11}$/.test(value)) return Number(value);
  return refuse(context, `Invalid timestamp: ${value}; must be an integer Unix timestamp or 'now'`);
});

/** A decimal number, kept as written. */
export const decimal = z.string().transform((value, context) => {
  if (/^-?\d{1,15}(\.\d{1,12})?$/.test(value)) return value;
  return refuse(context, `Invalid decimal: ${value}`);
});

/** A three-letter currency code, in lower case. */
export const currency = z.string().transform((value, context) => {
  if (/^[a-z]{3}$/i.test(value)) return value.toLowerCase();
  return refuse(context, `Invalid currency: ${value}`);
});

/**
 * An address that a browser is led to. Also those of apps (`myapp://…`) are taken, but nothing that a browser would
 * carry out or open by itself. `{CHECKOUT_SESSION_ID}` is filled in when the customer returns.
 */
export const redirectAddress = z.string().transform((value, context) => {
  if (value.length > 5_000)
    return refuse(context, 'Invalid URL: URL must be 5000 characters or less.', 'url_invalid');
  const filled = value.replaceAll('{CHECKOUT_SESSION_ID}', 'cs_test_1');
  const url = URL.canParse(filled) ? new URL(filled) : null;
  const leadsOut =
    url !== null && !NO_PLACE.has(url.protocol) && /^[a-z][a-z\d+.-]*:\/\/[^/?#]/i.test(filled);
  return leadsOut ? value : refuse(context, 'Not a valid URL', 'url_invalid');
});

const NO_PLACE: ReadonlySet<string> = new Set([
  'javascript:',
  'vbscript:',
  'data:',
  'blob:',
  'file:',
  'filesystem:',
  'about:',
  'view-source:',
]);

/** An http or https address. */
export const webAddress = z.string().transform((value, context) => {
  const url = URL.canParse(value) ? new URL(value) : null;
  if (url !== null && (url.protocol === 'https:' || url.protocol === 'http:')) return value;
  return refuse(context, 'Not a valid URL', 'url_invalid');
});

/** One of a few words. */
export const oneOf = <const T extends readonly [string, ...string[]]>(...words: T) => z.enum(words);

/** The empty string means null, which unsets a field. */
export const emptyable = <S extends z.ZodType>(schema: S) =>
  z.preprocess((value) => (value === '' ? null : value), schema.nullable());

/** A list, written `a[]=1` or `a[0]=1`; the empty string is the empty list. */
export const arrayOf = <S extends z.ZodType>(schema: S) =>
  z.preprocess((value) => (value === '' ? [] : indexed(value)), z.array(schema));

/** Metadata to merge: null removes a key, `null` in place of the whole removes all. */
export type MetadataChange = Readonly<Record<string, string | null>> | null;

/** `metadata[key]=value`; an empty value removes the key, `metadata=` removes all. */
export const metadata = z.unknown().transform((value, context): MetadataChange => {
  if (value === '') return null;
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    return refuse(context, `Invalid object: metadata must be a hash of strings`);
  const change: Record<string, string | null> = {};
  for (const [key, entry] of Object.entries(value)) {
    if (typeof entry !== 'string')
      return refuse(context, `Metadata values must be strings, but '${key}' is a hash or a list`);
    if (key.length > 40)
      return refuse(context, `Metadata keys can have up to 40 characters, but you passed '${key}'.`);
    if (entry.length > 500)
      return refuse(
        context,
        `Metadata values can have up to 500 characters, but '${key}' has ${entry.length}.`,
      );
    Object.defineProperty(change, key, {
      value: entry === '' ? null : entry,
      enumerable: true,
      configurable: true,
    });
  }
  if (Object.keys(change).length > 50) return refuse(context, 'Metadata can have up to 50 keys.');
  return change;
});

/** The metadata after a change; undefined changes nothing. */
export function mergeMetadata(before: Stripe.Metadata, change: MetadataChange | undefined): Stripe.Metadata {
  if (change === undefined) return before;
  if (change === null) return {};
  const after = new Map(Object.entries(before));
  for (const [key, value] of Object.entries(change)) {
    if (value === null) after.delete(key);
    else after.set(key, value);
  }
  return Object.fromEntries(after);
}

const addressParams = params({
  city: emptyable(text).optional(),
  country: emptyable(text).optional(),
  line1: emptyable(text).optional(),
  line2: emptyable(text).optional(),
  postal_code: emptyable(text).optional(),
  state: emptyable(text).optional(),
});

/** Stripe's own, with every member present. Named here, so that types that hold one can be declared. */
export interface Address {
  readonly city: string | null;
  readonly country: string | null;
  readonly line1: string | null;
  readonly line2: string | null;
  readonly postal_code: string | null;
  readonly state: string | null;
}

/** A postal address. */
export const address = addressParams.transform(
  (given): Address => ({
    city: given.city ?? null,
    country: given.country ?? null,
    line1: given.line1 ?? null,
    line2: given.line2 ?? null,
    postal_code: given.postal_code ?? null,
    state: given.state ?? null,
  }),
);

/** A shipping name and address. */
export const shipping = params({
  address,
  name: text,
  phone: emptyable(text).optional(),
  carrier: emptyable(text).optional(),
  tracking_number: emptyable(text).optional(),
});

/** The time of creation a list is narrowed to: an exact second or a range. */
export const created = z.unknown().transform((value, context): Stripe.RangeQueryParam => {
  if (typeof value === 'string') {
    const exact = timestamp.safeParse(value);
    if (exact.success) return { gte: exact.data, lte: exact.data };
    return refuse(context, `Invalid timestamp: ${value}`);
  }
  const range = createdRange.safeParse(value);
  if (range.success) return withoutUndefined(range.data);
  return refuse(context, 'Invalid created: must be a timestamp or a hash of gt, gte, lt, lte');
});

const createdRange = params({
  gt: timestamp.optional(),
  gte: timestamp.optional(),
  lt: timestamp.optional(),
  lte: timestamp.optional(),
});

/** The same object without the members that are undefined, as `exactOptionalPropertyTypes` asks. */
export function withoutUndefined<T extends object>(value: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  // A member that may be undefined is optional in every schema here, so leaving it out keeps the type.
  return Object.fromEntries(Object.entries(value).filter(([, member]) => member !== undefined)) as {
    [K in keyof T]: Exclude<T[K], undefined>;
  };
}

/** Refuses inside a transform, with one of Stripe's error codes. */
export function refuse(context: z.core.$RefinementCtx, message: string, code?: string): never {
  context.issues.push({ code: 'custom', message, input: context.value, params: code ? { code } : {} });
  return z.NEVER;
}

function indexed(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  const keys = Object.keys(value);
  return keys.length > 0 && keys.every((key) => /^\d+$/.test(key)) ? Object.values(value) : value;
}
