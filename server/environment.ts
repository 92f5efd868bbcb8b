import { z } from 'zod';

export const ROLES = ['api', 'webhooks', 'worker'] as const;
export type Role = (typeof ROLES)[number];

const LOG_LEVELS = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

const noLineBreak = /^[^\p{Cc}\u2028\u2029]+$/u;
/** What goes into a header, a signature or a connection as it is. */
const printable = /^[\x21-\x7e]+$/;
const PRINTABLE = 'must be printable ASCII without white space';

const port = z
  .string()
  .regex(/^\d{1,5}$/, 'must be a port number, 0 to 65535 (0 takes any free one)')
  .transform(Number)
  .refine((number) => number <= 65535, 'must be a port number, 0 to 65535 (0 takes any free one)');
const httpUrl = z
  .string()
  .regex(printable, PRINTABLE)
  .refine(isHttpUrl, 'must be an http or https URL such as https://host.example')
  .refine(isBare, 'must hold no user name, password, query or fragment');
const list = z.string().transform((text) =>
  text
    .split(',')
    .map((entry) => entry.trim())
    .filter((entry) => entry !== ''),
);
export const environment = z.object({
  PORT: port.optional(),
  OPS_PORT: port.optional(),
  SANDBOX_PORT: port.optional(),
  DATABASE_URL: z
    .string()
    .regex(printable, `${PRINTABLE}; write other characters as %XX`)
    .regex(/^postgres(ql)?:\/\//, 'must begin with postgres:// or postgresql://')
    .refine((text) => URL.canParse(text), 'must be a URL such as postgres://user:password@host:5432/billing')
    .refine(decodes, 'holds a % that is followed by no %XX: write a percent sign itself as %25')
    .refine(namesDatabase, 'must name the database behind the host, such as postgres://host:5432/billing')
    .refine(
      hasKnownSslMode,
      'has a wrong sslmode: disable, allow, prefer, require, verify-ca, verify-full or no-verify',
    )
    .optional(),
  STRIPE_SECRET_KEY: z
    .string()
    .regex(/^(?!pk_)/, 'is a publishable key, which is for browsers: take the secret one, sk_… or rk_…')
    .regex(printable, PRINTABLE)
    .regex(
      /^(pk_|[rs]k_(live|test)_.{8,}$)/,
      'must be a secret or restricted key: sk_test_…, sk_live_…, rk_test_… or rk_live_…',
    )
    .optional(),
  STRIPE_WEBHOOK_SECRETS: list
    .refine((secrets) => secrets.length > 0, 'must hold at least one secret')
    .refine(
      (secrets) => secrets.every((secret) => /^whsec_[\x21-\x7e]{8,}$/.test(secret)),
      'must be a comma-separated list of whsec_… secrets in printable ASCII without white space',
    )
    .optional(),
  STRIPE_API_BASE: httpUrl.optional(),
  STRIPE_READS_PER_SECOND: z
    .string()
    .regex(/^[1-9]\d{0,3}$/, 'must be a whole number of calls a second, 1 to 9999')
    .transform(Number)
    .optional(),
  RESEND_API_KEY: z
    .string()
    .regex(/^re_[\x21-\x7e]{4,}$/, 'must be a Resend API key: re_… in printable ASCII')
    .optional(),
  RESEND_BASE_URL: httpUrl.optional(),
  EMAIL_FROM: z
    .string()
    .regex(noLineBreak, 'must be one line without control characters')
    .regex(
      /^([^<>,]+<[^\s@<>,]+@[^\s@<>,]+>|[^\s@<>,]+@[^\s@<>,]+)$/,
      'must be an address such as Billing <billing@your.app>',
    )
    .optional(),
  BILLING_REDIRECT_ALLOWLIST: list.optional(),
  CHECKOUT_SUCCESS_URL: z.string().optional(),
  CHECKOUT_CANCEL_URL: z.string().optional(),
  PORTAL_RETURN_URL: z.string().optional(),
  INTERNAL_API_TOKEN: z
    .string()
    .regex(
      /^[\x21-\x7e]{24,}$/,
      'must be at least 24 characters of printable ASCII without white space: it travels in a header',
    )
    .optional(),
  WEBHOOK_SECRET_KEY: list
    .refine((keys) => keys.length > 0, 'must hold at least one key')
    .refine(
      (keys) => keys.every((key) => /^[A-Za-z0-9+/]{43}=$/.test(key)),
      'must be 32 random bytes in base64 (openssl rand -base64 32), or several of them: the new key, then old ones',
    )
    .transform((keys) => keys.map((key) => Buffer.from(key, 'base64')))
    .optional(),
  WEBHOOK_PORTS: list
    .refine(
      (ports) => ports.every((text) => /^[1-9]\d{0,4}$/.test(text) && Number(text) <= 65535),
      'must be a comma-separated list of port numbers',
    )
    .transform((ports) => ports.map(Number))
    .optional(),
  ROLES: list.refine(isRoles, `must be a comma-separated list of ${ROLES.join(', ')}`).optional(),
  DATA_DIR: z.string().regex(noLineBreak, 'must be a directory, without control characters').optional(),
  LOG_LEVEL: z.enum(LOG_LEVELS, { error: `must be one of ${LOG_LEVELS.join(', ')}` }).optional(),
});

/** What each variable allows alone but not together: above all, no part of the local Stripe next to a live key. */
export function contradictions(given: z.output<typeof environment>): string[] {
  const mistakes: string[] = [];
  const { STRIPE_SECRET_KEY: key, STRIPE_API_BASE: stripeBase } = given;
  if (key === undefined) {
    if (given.STRIPE_WEBHOOK_SECRETS)
      mistakes.push(
        'STRIPE_WEBHOOK_SECRETS is set without STRIPE_SECRET_KEY: set both, or neither for the local Stripe',
      );
    if (stripeBase !== undefined)
      mistakes.push(
        'STRIPE_API_BASE is set without STRIPE_SECRET_KEY: set both, or neither for the local Stripe',
      );
    if (given.STRIPE_READS_PER_SECOND !== undefined)
      mistakes.push(
        'STRIPE_READS_PER_SECOND is set without STRIPE_SECRET_KEY: the local Stripe does not count calls',
      );
    if (given.RESEND_API_KEY !== undefined && !isLoopback(given.RESEND_BASE_URL)) {
      mistakes.push(
        'RESEND_API_KEY is set without STRIPE_SECRET_KEY: the local Stripe does not run next to a live key. Set both, or neither for the mailbox',
      );
    }
  } else if (isLive(key)) {
    if (given.DATABASE_URL === undefined)
      mistakes.push(
        'DATABASE_URL is missing: a live STRIPE_SECRET_KEY does not run on the embedded database',
      );
  }
  // Keys, mails and what customers pay go to these addresses.
  for (const name of ['STRIPE_API_BASE', 'RESEND_BASE_URL'] as const) {
    const base = given[name];
    if (base === undefined || new URL(base).protocol === 'https:') continue;
    if (key !== undefined && isLive(key))
      mistakes.push(`${name} must be https when STRIPE_SECRET_KEY is live`);
    else if (!isLoopback(base)) mistakes.push(`${name} must be https unless it is on this machine`);
  }
  if (given.RESEND_API_KEY === undefined && given.RESEND_BASE_URL !== undefined)
    mistakes.push('RESEND_BASE_URL is set without RESEND_API_KEY');
  return mistakes;
}

/**
 * Names that differ from one of ours by underscores or case alone, where ours is missing: nobody would read them, and
 * a live key under such a name would start the local Stripe.
 */
export function misspellings(present: Readonly<Record<string, unknown>>): string[] {
  const ours = new Map(Object.keys(environment.shape).map((name) => [bare(name), name]));
  return Object.keys(present).flatMap((name) => {
    const meant = name.length < SHORTEST_CERTAIN ? undefined : ours.get(bare(name));
    if (meant === undefined || meant in present) return [];
    return [`${name} is not read: the name is ${meant}`];
  });
}

/** Shorter ones may be somebody else's. */
const SHORTEST_CERTAIN = 8;

function bare(name: string): string {
  return name.replaceAll('_', '').toUpperCase();
}

export function isLive(key: string): boolean {
  return /^[rs]k_live_/.test(key);
}

function isHttpUrl(text: string): boolean {
  return URL.canParse(text) && /^https?:$/.test(new URL(text).protocol);
}

function isLoopback(url: string | undefined): boolean {
  return url !== undefined && ['localhost', '127.0.0.1', '[::1]'].includes(new URL(url).hostname);
}

function isRoles(entries: string[]): entries is Role[] {
  return entries.length > 0 && entries.every((entry) => ROLES.some((role) => role === entry));
}

function isBare(text: string): boolean {
  if (!URL.canParse(text)) return true;
  const { username, password, search, hash } = new URL(text);
  return username + password + search + hash === '';
}

/** Whether the parts of an address that are written as %XX can be read. What is no address is told of elsewhere. */
function decodes(text: string): boolean {
  const url = URL.parse(text);
  try {
    if (url !== null) decodeURIComponent([url.username, url.password, url.hostname, url.pathname].join(' '));
    return true;
  } catch {
    return false;
  }
}

function namesDatabase(text: string): boolean {
  const url = URL.parse(text);
  return !url?.protocol.startsWith('postgres') || url.pathname.length > 1;
}

const SSL_MODES = ['disable', 'allow', 'prefer', 'require', 'verify-ca', 'verify-full', 'no-verify'];

function hasKnownSslMode(text: string): boolean {
  const modes = URL.parse(text)?.searchParams.getAll('sslmode') ?? [];
  return modes.every((mode) => SSL_MODES.includes(mode));
}
