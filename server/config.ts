import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  contradictions,
  environment,
  isLive,
  type LogLevel,
  misspellings,
  ROLES,
  type Role,
} from './environment.ts';

/** Everything the process was told, checked. What is absent is replaced by a part of our own. */
export interface Config {
  /** `fixed` ports were asked for and are taken or the start fails; others move on to the next free one. */
  readonly port: { readonly number: number; readonly fixed: boolean };
  /** Where `/metrics` and `/readyz` are; null: beside the API. */
  readonly opsPort: number | null;
  readonly roles: ReadonlySet<Role>;
  readonly logLevel: LogLevel;
  readonly dataDir: string;
  readonly database: { readonly kind: 'embedded' } | { readonly kind: 'url'; readonly url: string };
  readonly stripe: LocalStripeConfig | RealStripeConfig;
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

export interface LocalStripeConfig {
  readonly kind: 'local';
  readonly port: { readonly number: number; readonly fixed: boolean };
}

/** A little under what Stripe allows a key: 100 calls a second live, 25 in test mode. */
const CALLS_PER_SECOND = { live: 80, test: 20 } as const;

export interface RealStripeConfig {
  readonly kind: 'real';
  readonly secretKey: string;
  readonly apiBase: string;
  readonly webhookSecrets: readonly string[];
  readonly livemode: boolean;
  /** How many calls to Stripe this process may make in a second. */
  readonly callsPerSecond: number;
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

/** Where the embedded database keeps its files. */
export function embeddedDataDir({ dataDir }: Pick<Config, 'dataDir'>): string {
  return join(dataDir, 'postgres');
}

const CHECKOUT = fileURLToPath(new URL('..', import.meta.url));
const DEFAULT_PORT = 8080;
const DEFAULT_SANDBOX_PORT = 12111;

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
  const mistakes = [...misspellings(present), ...contradictions(given)];
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
            callsPerSecond:
              given.STRIPE_READS_PER_SECOND ??
              CALLS_PER_SECOND[isLive(given.STRIPE_SECRET_KEY) ? 'live' : 'test'],
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

function portOf(given: number | undefined, preferred: number): { number: number; fixed: boolean } {
  return { number: given ?? preferred, fixed: given !== undefined };
}
