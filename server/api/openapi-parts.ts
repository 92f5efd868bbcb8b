import manifest from '../../package.json' with { type: 'json' };

export const INFO = {
  title: 'Driftstack Billing API',
  version: manifest.version,
  description:
    'Billing for Driftstack: reads what an account has bought and mints Checkout and Customer Portal sessions ' +
    'at Stripe. Errors are `application/problem+json` (RFC 9457): branch on `type` or `code`. Repeat only ' +
    '`rate-limited`, `internal` and network failures. Billing is always that of the account the API key ' +
    'belongs to; `X-Driftstack-Account` is ignored.',
  contact: { name: 'Driftstack', email: 'billing@driftstack.dev' },
  license: { name: 'MIT', identifier: 'MIT' },
};

/** Every deployment serves the document, so none of them is named in it. */
export const SERVERS = [{ url: '/', description: 'The deployment that serves this document.' }];

export const TAGS = [
  { name: 'Billing', description: 'What an account has bought, and the ways to buy.' },
  { name: 'Audit log', description: 'What happened to an account.' },
  { name: 'Webhooks', description: 'The events of an account: by reading on, or sent to its endpoints.' },
];

export const SECURITY = {
  apiKey: {
    type: 'http' as const,
    scheme: 'bearer',
    bearerFormat: 'ds_live_…',
    description: 'An API key: `Authorization: Bearer ds_live_…`. It belongs to one account.',
  },
};

export const IDEMPOTENCY_KEY = {
  name: 'Idempotency-Key',
  in: 'header' as const,
  required: false,
  description:
    'Makes repeating the call safe: for 24 hours the same key with the same body gives the same answer again, ' +
    'with `Idempotent-Replayed: 1`. What was refused before any work can be sent again under the same key. Every ' +
    'POST takes one; PATCH and DELETE are the same however often they are sent, and look at none. 1 to 255 ' +
    'printable ASCII characters without white space; an empty one counts as absent.',
  schema: { type: 'string' as const, maxLength: 255, pattern: '^[\\x21-\\x7e]*$' },
};

const text = (description: string, example: string) => ({
  description,
  schema: { type: 'string' as const },
  example,
});
const integer = (description: string, example: number) => ({
  description,
  schema: { type: 'integer' as const },
  example,
});

export const HEADERS = {
  'X-Request-Id': text(
    'The id of this request. Quote it when you ask for help.',
    'req_01890a5d-ac96-774b-bcce-b302099a8057',
  ),
  'X-RateLimit-Bucket': text('The bucket these figures are about: `global` or `minting`.', 'global'),
  'X-RateLimit-Limit': integer('How many calls the bucket holds when full.', 60),
  'X-RateLimit-Remaining': integer('How many calls are left.', 59),
  'X-RateLimit-Reset': integer('When the bucket is full again, in Unix seconds.', 1_777_593_600),
  'RateLimit-Limit': integer('How many calls the bucket holds when full.', 60),
  'RateLimit-Remaining': integer('How many calls are left.', 59),
  'RateLimit-Reset': integer('Seconds until the bucket is full again.', 1),
  'Idempotent-Replayed': text('`1` when the answer is the stored one of an earlier call.', '1'),
  'Retry-After': integer('Seconds to wait before trying again.', 2),
  'WWW-Authenticate': text('How to authenticate.', 'Bearer realm="driftstack"'),
};

export const RATE_LIMIT_HEADERS = [
  'X-RateLimit-Bucket',
  'X-RateLimit-Limit',
  'X-RateLimit-Remaining',
  'X-RateLimit-Reset',
  'RateLimit-Limit',
  'RateLimit-Remaining',
  'RateLimit-Reset',
];
