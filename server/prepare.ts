import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { BillingDeps } from './billing/deps.ts';
import { parseAllowlist, type RedirectPolicy } from './billing/redirects.ts';
import { type Config, ConfigError } from './config.ts';
import { webhookSecretKey } from './operator/webhook-secret-key.ts';
import { requirePorts } from './ports.ts';

/** What the configuration comes to on this machine, known before anything is loaded or started. */
export type Prepared = {
  readonly redirects: RedirectPolicy;
  /** The operator's own addresses for calls that name none. */
  readonly defaults: BillingDeps['defaults'];
  readonly webhookSecretKey: Buffer | null;
};

/**
 * Looks at whatever needs no other part: addresses, ports, files. Throws a ConfigError for what cannot work, so that
 * nothing is started for a start that must fail. It imports next to nothing, so that this is said at once.
 */
export async function prepare(config: Config): Promise<Prepared> {
  requireLocalStripe(config);
  const redirects = redirectPolicy(config);
  const defaults = {
    checkoutSuccessUrl: config.checkoutSuccessUrl,
    checkoutCancelUrl: config.checkoutCancelUrl,
    portalReturnUrl: config.portalReturnUrl,
  };
  requireAllowed(redirects, {
    CHECKOUT_SUCCESS_URL: defaults.checkoutSuccessUrl,
    CHECKOUT_CANCEL_URL: defaults.checkoutCancelUrl,
    PORTAL_RETURN_URL: defaults.portalReturnUrl,
  });
  await requirePorts(config);
  return { redirects, defaults, webhookSecretKey: await webhookSecretKey(config) };
}

/** The image of the service goes without the local Stripe: beside it there must be a real one. */
function requireLocalStripe({ stripe }: Config): void {
  if (stripe.kind === 'local' && !existsSync(fileURLToPath(new URL('./local-stripe', import.meta.url))))
    throw new ConfigError([
      'STRIPE_SECRET_KEY is missing, and the local Stripe that would stand in is not part of this installation: set it',
    ]);
}

function redirectPolicy({ redirectAllowlist, stripe }: Config): RedirectPolicy {
  try {
    if (redirectAllowlist !== null) return parseAllowlist(redirectAllowlist);
    // The documentation's own example, and whatever a newcomer runs on this machine.
    return stripe.kind === 'local'
      ? parseAllowlist(['https://your.app'], { anyLoopbackPort: true })
      : parseAllowlist([]);
  } catch (error) {
    throw new ConfigError([
      `BILLING_REDIRECT_ALLOWLIST: ${error instanceof Error ? error.message : String(error)}`,
    ]);
  }
}

/** The operator's own must pass the allowlist like anybody's. */
function requireAllowed(redirects: RedirectPolicy, given: Readonly<Record<string, string | null>>): void {
  const mistakes = Object.entries(given)
    .filter(([, url]) => url !== null && !redirects.allows(url))
    .map(([name]) => `${name} is not on BILLING_REDIRECT_ALLOWLIST`);
  if (mistakes.length > 0) throw new ConfigError(mistakes);
}
