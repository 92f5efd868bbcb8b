import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';

export const ROLES = ['api', 'webhooks', 'worker'] as const;
export type Role = (typeof ROLES)[number];

/** Everything the process was told, checked. What is absent is replaced by a part of our own. */
export interface Config {
  /** `fixed` ports were asked for and are taken or the start fails; others move on to the next free one. */
  readonly port: { readonly number: number; readonly fixed: boolean };
  /** Where `/metrics` and `/readyz` are; null: beside the API. */
  readonly opsPort: number | null;
  readonly roles: ReadonlySet<Role>;
  readonly logLevel: (typeof LOG_LEVELS)[number];
  readonly dataDir: string;
  readonly database: { readonly kind: 'embedded' } | { readonly kind: 'url'; readonly url: string };
  readonly stripe: LocalStripe | RealStripe;
  readonly email: { readonly kind: 'mailbox' } | { readonly kind: 'off' } | RealEmail;
  readonly emailFrom: string;
  /** Null: the operator gave none. The local Stripe then allows the addresses of this machine; else nothing is allowed. */
  readonly redirectAllowlist: readonly string[] | null;
  readonly checkoutSuccessUrl: string | null;
  readonly checkoutCancelUrl: string | null;
  readonly portalReturnUrl: string | null;
  readonly internalApiToken: string | null;
  /** The 32 bytes under which the secrets of webhook endpoints are kept; null when none were given. */
  readonly webhookSecretKey: Buffer | null;
  /** The keys before it, under which some may still stand. */
  readonly oldWebhookSecretKeys: readonly Buffer[];
  /** The ports beside 443 that webhooks may be sent to. */
  readonly webhookPorts: readonly number[];
}

export interface LocalStripe {
  readonly kind: 'local';
  readonly port: { readonly number: number; readonly fixed: boolean };
}

export interface RealStripe {
  readonly kind: 'real';
  readonly secretKey: string;
  readonly apiBase: string;
  readonly webhookSecrets: readonly string[];
  readonly livemode: boolean;
}

export interface RealEmail {
  readonly kind: 'resend';
  readonly apiKey: string;
  readonly baseUrl: string;
}

/** One line for each mistake in the environment. Values are never repeated: they may be secrets. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  readonly mistakes: readonly string[];

  constructor(mistakes: readonly string[]) {
    super(mistakes.join('\n'));
    this.mistakes = mistakes;
  }
}

const LOG_LEVELS = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'] as const;
const CHECKOUT = fileURLToPath(new URL('..', import.meta.url));
const DEFAULT_PORT = 8080;
const DEFAULT_SANDBOX_PORT = 12111;

const port = z
  .string()
  .regex(/^\d{1,5}$/, 'must be a port number, 0 to 65535 (0 takes any free one)')
  .transform(Number)
  .refine((number) => number <= 65535, 'must be a port number, 0 to 65535 (0 takes any free one)');
const httpUrl = z.string().refine(isHttpUrl, 'must be an http or https URL such as https://host.example');
const list = z.string().transform((text) =>
  text
    .split(',')
    .map((entry) => entry.trim())
    .filter((entry) => entry !== ''),
);
const noLineBreak = /^[^\r\n\0]+$/;

const environment = z.object({
  PORT: port.optional(),
  OPS_PORT: port.optional(),
  SANDBOX_PORT: port.optional(),
  DATABASE_URL: z
    .string()
    .regex(/^postgres(ql)?:\/\//, 'must begin with postgres:// or postgresql://')
    .refine((text) => URL.canParse(text), 'must be a URL such as postgres://user:password@host:5432/billing')
    .optional(),
  STRIPE_SECRET_KEY: z
    .string()
    .regex(
      /^[rs]k_(live|test)_\S{8,}$/,
      'must be a secret or restricted key: sk_test_…, sk_live_…, rk_test_… or rk_live_…',
    )
    .optional(),
  STRIPE_WEBHOOK_SECRETS: list
    .refine((secrets) => secrets.length > 0, 'must hold at least one secret')
    .refine(
      (secrets) => secrets.every((secret) => /^whsec_\S{8,}$/.test(secret)),
      'must be a comma-separated list of whsec_… secrets',
    )
    .optional(),
  STRIPE_API_BASE: httpUrl.optional(),
  RESEND_API_KEY: z
    .string()
    .regex(/^re_\S{4,}$/, 'must be a Resend API key: re_…')
    .optional(),
  RESEND_BASE_URL: httpUrl.optional(),
  EMAIL_FROM: z
    .string()
    .regex(noLineBreak, 'must be one line')
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
    .regex(/^\S{24,}$/, 'must be at least 24 characters without white space')
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
  DATA_DIR: z.string().regex(noLineBreak, 'must be a directory').optional(),
  LOG_LEVEL: z.enum(LOG_LEVELS, { error: `must be one of ${LOG_LEVELS.join(', ')}` }).optional(),
});

/**
 * Reads the environment; the only place that does. An empty variable counts as absent.
 * Throws a ConfigError that names every mistake at once.
 */
export function readConfig(env: Readonly<Record<string, string | undefined>>): Config {
  const present = Object.fromEntries(
    Object.entries(env).filter(([, value]) => value !== undefined && value.trim() !== ''),
  );
  const parsed = environment.safeParse(present);
  if (!parsed.success) {
    throw new ConfigError(parsed.error.issues.map((issue) => `${issue.path.join('.')} ${issue.message}`));
  }
  const given = parsed.data;
  const mistakes = contradictions(given);
  if (mistakes.length > 0) throw new ConfigError(mistakes);

  return {
    port: portOf(given.PORT, DEFAULT_PORT),
    opsPort: given.OPS_PORT ?? null,
    roles: new Set(given.ROLES ?? ROLES),
    // Beside the local Stripe a person reads the terminal; elsewhere a machine does.
    logLevel: given.LOG_LEVEL ?? (given.STRIPE_SECRET_KEY === undefined ? 'warn' : 'info'),
    dataDir: resolve(given.DATA_DIR ?? resolve(CHECKOUT, '.data')),
    database:
      given.DATABASE_URL === undefined ? { kind: 'embedded' } : { kind: 'url', url: given.DATABASE_URL },
    stripe:
      given.STRIPE_SECRET_KEY === undefined
        ? { kind: 'local', port: portOf(given.SANDBOX_PORT, DEFAULT_SANDBOX_PORT) }
        : {
            kind: 'real',
            secretKey: given.STRIPE_SECRET_KEY,
            apiBase: given.STRIPE_API_BASE ?? 'https://api.stripe.com',
            webhookSecrets: given.STRIPE_WEBHOOK_SECRETS ?? [],
            livemode: isLive(given.STRIPE_SECRET_KEY),
          },
    email:
      given.RESEND_API_KEY !== undefined
        ? {
            kind: 'resend',
            apiKey: given.RESEND_API_KEY,
            baseUrl: given.RESEND_BASE_URL ?? 'https://api.resend.com',
          }
        : { kind: given.STRIPE_SECRET_KEY === undefined ? 'mailbox' : 'off' },
    emailFrom: given.EMAIL_FROM ?? 'Driftstack Billing <billing@driftstack.dev>',
    redirectAllowlist: given.BILLING_REDIRECT_ALLOWLIST ?? null,
    checkoutSuccessUrl: given.CHECKOUT_SUCCESS_URL ?? null,
    checkoutCancelUrl: given.CHECKOUT_CANCEL_URL ?? null,
    portalReturnUrl: given.PORTAL_RETURN_URL ?? null,
    internalApiToken: given.INTERNAL_API_TOKEN ?? null,
    webhookSecretKey: given.WEBHOOK_SECRET_KEY?.[0] ?? null,
    oldWebhookSecretKeys: given.WEBHOOK_SECRET_KEY?.slice(1) ?? [],
    webhookPorts: given.WEBHOOK_PORTS ?? [],
  };
}

/** What each variable allows alone but not together: above all, no part of the sandbox next to a live key. */
function contradictions(given: z.output<typeof environment>): string[] {
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
    if (stripeBase?.startsWith('http:'))
      mistakes.push('STRIPE_API_BASE must be https when STRIPE_SECRET_KEY is live');
  } else if (stripeBase?.startsWith('http:') && !isLoopback(stripeBase)) {
    mistakes.push('STRIPE_API_BASE must be https unless it is on this machine');
  }
  if (given.RESEND_API_KEY === undefined && given.RESEND_BASE_URL !== undefined)
    mistakes.push('RESEND_BASE_URL is set without RESEND_API_KEY');
  return mistakes;
}

function portOf(given: number | undefined, preferred: number): { number: number; fixed: boolean } {
  return { number: given ?? preferred, fixed: given !== undefined };
}

function isLive(key: string): boolean {
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
