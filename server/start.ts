import { randomBytes } from 'node:crypto';
import type { Logger } from 'pino';
import { type App, createApp } from './app.ts';
import type { BillingDeps } from './billing/deps.ts';
import { type Config, embeddedDataDir } from './config.ts';
import { connectDatabase, type Database } from './database/connection.ts';
import { startEmbeddedPostgres } from './database/embedded.ts';
import type { LocalStripe } from './local-stripe/local-stripe.ts';
import { bringUpToDate, refuseIfBehind, warnIfAhead } from './operator/database.ts';
import { type Demo, openDemoAccount } from './operator/demo.ts';
import { localTime } from './operator/local-time.ts';
import { connectLocalStripe } from './operator/stripe.ts';
import { firstFree, hostOf } from './ports.ts';
import type { Prepared } from './prepare.ts';
import { connectStripe } from './stripe/api/gateway.ts';
import { callsPerSecond } from './stripe/api/limiter.ts';

/** What runs, for whoever tells a person about it. */
export interface Running {
  readonly url: string;
  /** Where `/metrics` and `/readyz` are, if not beside the API. */
  readonly opsUrl: string | null;
  readonly local: { readonly stripeUrl: string; readonly demo: Demo | null } | null;
  readonly warnings: readonly string[];
  /** Stops everything in the reverse order of its start; nothing is left running. */
  close(): Promise<void>;
}

const POOL_MAX = 20;

/**
 * Starts everything the configuration asks for, parts of our own for whatever it leaves out. When something
 * fails, what had been started is stopped again and the error says what a person can do.
 */
export async function start(
  config: Config,
  prepared: Prepared,
  log: Logger,
  progress: (line: string) => void,
): Promise<Running> {
  const closers: (() => Promise<void>)[] = [];
  const close = async (): Promise<void> => {
    for (let closer = closers.pop(); closer; closer = closers.pop()) await closer();
  };
  try {
    return { ...(await startParts(config, prepared, log, progress, closers)), close };
  } catch (error) {
    await close();
    throw error;
  }
}

async function startParts(
  config: Config,
  prepared: Prepared,
  log: Logger,
  progress: (line: string) => void,
  closers: (() => Promise<void>)[],
): Promise<Omit<Running, 'close'>> {
  const db = await openDatabase(config, log, progress, closers);
  const token =
    config.internalApiToken ??
    (config.stripe.kind === 'local' ? randomBytes(32).toString('base64url') : null);

  // The console reads us over HTTP like any other program; where we listen is known last.
  const product = { baseUrl: '', token: token ?? '' };
  if (config.stripe.kind === 'local') progress('starting the local Stripe');
  // Loaded only where it runs: a deployment beside the real Stripe goes without it.
  const local = config.stripe.kind === 'local' ? await import('./local.ts') : null;
  const localStripe =
    local && config.stripe.kind === 'local'
      ? await local.openLocalStripe(config, config.stripe, product)
      : null;
  if (localStripe) closers.push(() => localStripe.close());

  const gateway =
    config.stripe.kind === 'real'
      ? connectStripe({ ...config.stripe, limiter: callsPerSecond(config.stripe.callsPerSecond) })
      : connectLocalStripe(localStripe?.url ?? '');
  let webhookSecrets = config.stripe.kind === 'real' ? config.stripe.webhookSecrets : [];

  // Beside the local Stripe we live in its time, which the console moves.
  const aheadMs = (): number => (localStripe ? localStripe.world.aheadSeconds() * 1_000 : 0);
  const clock = { now: () => new Date(Date.now() + aheadMs()), aheadMs };

  const app = await createApp({
    db,
    gateway,
    log,
    clock,
    roles: config.roles,
    operationsApart: config.opsPort !== null,
    livemode: config.stripe.kind === 'real' && config.stripe.livemode,
    webhookSecrets: () => webhookSecrets,
    redirects: prepared.redirects,
    defaults: defaultUrls(prepared, localStripe),
    linkOrigins: localStripe ? [localStripe.url] : [],
    email: emailParts(config, localStripe),
    emailFrom: config.emailFrom,
    ...(local && config.email.kind === 'mailbox' && { emailsPerSecond: local.MAILS_PER_SECOND }),
    internalApiToken: token,
    console: localStripe !== null,
    customerWebhooks: {
      secretKey: prepared.webhookSecretKey,
      oldSecretKeys: config.oldWebhookSecretKeys,
      ports: config.webhookPorts,
      loopback: config.stripe.kind === 'local',
    },
  });
  closers.push(() => app.close());
  if (localStripe) closers.push(() => localStripe.clock.close());
  const port = await listenOn(app, config);
  const opsPort = await listenForOperations(app, config);
  const url = `http://127.0.0.1:${port}`;
  const opsUrl = opsPort === null ? null : `http://127.0.0.1:${opsPort}`;
  product.baseUrl = url;
  if (!local || !localStripe) return { url, opsUrl, local: null, warnings: warningsOf(config) };

  webhookSecrets = [await local.wireLocalStripe(gateway, localStripe, `${url}/webhooks/stripe`)];
  // What fell due while nothing ran here happens now, one moment after the other.
  localStripe.clock.follow(localTime({ db, clock }));
  const demo =
    config.database.kind === 'embedded'
      ? await openDemoAccount(db, { dataDir: config.dataDir, now: clock.now() })
      : null;
  return { url, opsUrl, local: { stripeUrl: localStripe.url, demo }, warnings: warningsOf(config) };
}

async function openDatabase(
  config: Config,
  log: Logger,
  progress: (line: string) => void,
  closers: (() => Promise<void>)[],
): Promise<Database> {
  const embedded = config.database.kind === 'embedded';
  let url = config.database.kind === 'url' ? config.database.url : '';
  if (embedded) {
    progress('starting PostgreSQL 18');
    const postgres = await startEmbeddedPostgres({
      dataDir: embeddedDataDir(config),
      log: (message) => log.warn(message),
      info: (message) => log.info(message),
    });
    closers.push(() => postgres.close());
    url = postgres.url;
  }
  const db = await connectDatabase({
    url,
    poolMax: POOL_MAX,
    applicationName: 'driftstack-billing',
    onIdleError: (err) => log.warn({ err }, 'a database connection broke'),
  });
  closers.push(() => db.close());
  if (embedded) {
    progress('bringing its tables up to date');
    await bringUpToDate(db, config);
  } else {
    await refuseIfBehind(db);
    const ahead = await warnIfAhead(db);
    if (ahead !== null) log.warn(ahead);
  }
  return db;
}

/** Beside the local Stripe its demo pages stand in; with an allowlist of the operator's they may not be on it. */
function defaultUrls(
  { defaults, redirects }: Prepared,
  localStripe: LocalStripe | null,
): BillingDeps['defaults'] {
  const demo = (path: string): string | null => {
    const url = localStripe && `${localStripe.url}${path}`;
    return url !== null && redirects.allows(url) ? url : null;
  };
  return {
    checkoutSuccessUrl: defaults.checkoutSuccessUrl ?? demo('/app/success?session_id={CHECKOUT_SESSION_ID}'),
    checkoutCancelUrl: defaults.checkoutCancelUrl ?? demo('/app/cancel'),
    portalReturnUrl: defaults.portalReturnUrl ?? demo('/app/account'),
  };
}

function emailParts(
  { email }: Config,
  localStripe: LocalStripe | null,
): Parameters<typeof createApp>[0]['email'] {
  if (email.kind === 'resend') return email;
  return email.kind === 'mailbox' && localStripe
    ? { kind: 'resend', apiKey: 're_local', baseUrl: localStripe.url }
    : null;
}

async function listenOn(app: App, config: Config): Promise<number> {
  return await firstFree(config.port, 'PORT', (number) => app.listen(number, hostOf(config)));
}

async function listenForOperations(app: App, config: Config): Promise<number | null> {
  if (config.opsPort === null) return null;
  const port = { number: config.opsPort, fixed: true };
  return await firstFree(port, 'OPS_PORT', (number) => app.listenOperations(number, hostOf(config)));
}

function warningsOf(config: Config): string[] {
  const { stripe, email, redirectAllowlist } = config;
  if (stripe.kind === 'local') return [];
  return [
    ...(stripe.webhookSecrets.length === 0 && config.roles.has('webhooks')
      ? ['STRIPE_WEBHOOK_SECRETS is not set: deliveries of Stripe are refused until it is']
      : []),
    ...(redirectAllowlist === null && config.roles.has('api')
      ? ['BILLING_REDIRECT_ALLOWLIST is not set: every redirect address is refused until it is']
      : []),
    ...(config.webhookSecretKey === null && config.database.kind === 'url'
      ? ['WEBHOOK_SECRET_KEY is not set: customers cannot register webhook endpoints until it is']
      : []),
    ...(email.kind === 'off' && config.roles.has('worker')
      ? ['RESEND_API_KEY is not set: mails are recorded and not sent']
      : []),
  ];
}
