import { setTimeout as sleep } from 'node:timers/promises';
import type { FastifyInstance } from 'fastify';
import type { Logger } from 'pino';
import type { Clock } from '../shared/time.ts';
import { listAudit } from './audit/list.ts';
import { startCheckout } from './billing/checkout.ts';
import type { BillingDeps } from './billing/deps.ts';
import { forgetOldKeys } from './billing/idempotency.ts';
import { internalUseCases } from './billing/internal.ts';
import { once } from './billing/once.ts';
import { startPortal } from './billing/portal.ts';
import { readState } from './billing/read-state.ts';
import type { RedirectPolicy } from './billing/redirects.ts';
import { startTrialPack } from './billing/trial-pack.ts';
import type { RealEmail } from './config.ts';
import { checkLedger } from './credit/check.ts';
import { startExpiry } from './credit/expire.ts';
import { listUsage } from './credit/list.ts';
import type { Database } from './database/connection.ts';
import { watchDue } from './database/due.ts';
import { repeat } from './database/recurring.ts';
import type { Role } from './environment.ts';
import { buildHttp, buildOperations } from './http/app.ts';
import { mountInternal } from './http/internal-door.ts';
import type { RateLimits } from './http/limits.ts';
import { createMetrics, type Metrics } from './http/metrics.ts';
import { listenOn } from './http/server.ts';
import { allowLinksTo, STRIPE_ORIGINS } from './notify/links.ts';
import { startMailer } from './notify/mailer.ts';
import { connectResend } from './notify/resend.ts';
import { createSendingPace } from './notify/sending-pace.ts';
import { readConsole } from './operator/console.ts';
import type { StripeGateway } from './stripe/api/gateway.ts';
import type { SyncDeps } from './stripe/deps.ts';
import { watchClock } from './stripe/inbox/clock-watch.ts';
import { createEventStore } from './stripe/inbox/event-store.ts';
import { takeIn } from './stripe/inbox/intake.ts';
import { lookAfterStripe } from './stripe/repair/look-after.ts';
import { startAccountCrew, startOwnerCrew } from './stripe/sync/worker.ts';
import type { Resolve } from './webhooks/destination.ts';
import { startDispatcher } from './webhooks/dispatch.ts';
import { createPoster } from './webhooks/post.ts';
import { resolveByDns } from './webhooks/resolve.ts';
import type { SecretKeys } from './webhooks/secrets.ts';
import { webhookUseCases } from './webhooks/use-cases.ts';

export type AppParts = {
  /** Connected and up to date; closed by whoever opened it. */
  readonly db: Database;
  readonly gateway: StripeGateway;
  readonly clock: Clock;
  readonly log: Logger;
  readonly roles: ReadonlySet<Role>;
  readonly livemode: boolean;
  /** Read anew at each delivery, so that a local endpoint can be made after the port is known. */
  readonly webhookSecrets: () => readonly string[];
  readonly redirects: RedirectPolicy;
  readonly defaults: BillingDeps['defaults'];
  /** Where mails may lead besides Stripe's own pages. */
  readonly linkOrigins: readonly string[];
  /** Null where this deployment sends no mails. */
  readonly email: RealEmail | null;
  readonly emailFrom: string;
  /** Default: what Resend allows a new account. */
  readonly emailsPerSecond?: number;
  readonly internalApiToken: string | null;
  /** Whether `/internal/console` is there, for the console of the local Stripe. */
  readonly console: boolean;
  readonly limits?: RateLimits;
  /** Whether `/readyz` and `/metrics` have a server of their own. */
  readonly operationsApart?: boolean;
  readonly customerWebhooks: CustomerWebhooks;
};

/** Without a key this deployment sends none. */
export type CustomerWebhooks = SecretKeys & {
  /** The ports beside 443 that may be called. */
  readonly ports: readonly number[];
  /** Lets http go to this machine, for development beside the local Stripe. Refused with a live key. */
  readonly loopback: boolean;
  readonly resolve?: Resolve;
};

export type App = {
  /** For requests without a network, in tests. */
  readonly http: FastifyInstance;
  /** Listens and answers the port; 0 takes any free one. */
  listen(port: number, host: string): Promise<number>;
  /** The same for `/readyz` and `/metrics`, where they have a server of their own. */
  listenOperations(port: number, host: string): Promise<number>;
  /** Takes no new work, finishes what is under way, and lets go of everything it opened. */
  close(): Promise<void>;
};

const RESEND_TIMEOUT_MS = 10_000;
/** Resend's limit for a new account. */
const EMAILS_PER_SECOND = 2;
/** How often a process looks whether a check is due. */
const CHECK_PAUSE_MS = 60_000;
/** How often idempotency keys whose day is over are deleted. */
const FORGET_PAUSE_MS = 600_000;
/** How long load balancers get to see that we are leaving before connections are refused. */
const DRAIN_MS = 1_000;

/** Puts the service together; the only place that knows every room. Nothing listens until `listen`. */
export async function createApp(parts: AppParts): Promise<App> {
  let draining = false;
  const metrics = createMetrics(parts);
  const isDraining = () => draining;
  const http = buildDoors(parts, metrics, isDraining);
  const { db, clock, log } = parts;
  const operations = parts.operationsApart ? buildOperations({ db, clock, log, metrics, isDraining }) : null;
  const worker = parts.roles.has('worker') ? await startWorker(parts, metrics) : null;
  return {
    http,
    listen: (port, host) => listenOn(http, port, host),
    async listenOperations(port, host) {
      if (!operations) throw new Error('This app has its operations beside the API');
      return await listenOn(operations, port, host);
    },
    async close() {
      draining = true;
      if (http.server.listening && http.server.address() !== null) await sleep(DRAIN_MS);
      await http.close();
      await worker?.close();
      // Last, so that whoever watches sees the end.
      await operations?.close();
    },
  };
}

function buildDoors(parts: AppParts, metrics: Metrics, isDraining: () => boolean): FastifyInstance {
  const { db, clock, log, gateway, redirects, defaults, livemode } = parts;
  const onAlarm: BillingDeps['onAlarm'] = ({ kind }) => metrics.countAlarm(kind);
  const billing: BillingDeps = { db, gateway, clock, redirects, defaults, log, onAlarm };
  const webhookDeps = webhookParts(parts);
  const watch = watchClock({ log, onAlarm, nowMs: () => performance.now() });
  const onSigned = (aheadSeconds: number): void => {
    metrics.setStripeClock(aheadSeconds);
    watch(aheadSeconds);
  };
  const events = createEventStore(db);
  const http = buildHttp({
    db,
    clock,
    log,
    metrics,
    isDraining,
    withoutOperations: parts.operationsApart ?? false,
    ...(parts.roles.has('api') && {
      api: {
        useCases: {
          readState: (caller, input) => readState(billing, caller, input),
          startCheckout: (call, input) => startCheckout(billing, call, input),
          startTrialPack: (call, input) => startTrialPack(billing, call, input),
          startPortal: (call, input) => startPortal(billing, call, input),
          listTrialPackUsage: (accountId, input) => listUsage(db, accountId, input),
          listAudit: (accountId, input) => listAudit(db, accountId, input),
          webhooks: webhookUseCases(webhookDeps),
          once: (call, asked, work, read) =>
            once(webhookDeps, call, asked, (commit) => work(webhookUseCases(webhookDeps, commit)), read),
        },
        ...(parts.limits && { limits: parts.limits }),
      },
    }),
    ...(parts.roles.has('webhooks') && {
      webhooks: {
        takeIn: (delivery) =>
          takeIn({ events, clock, livemode, secrets: parts.webhookSecrets(), onSigned }, delivery),
      },
    }),
  });
  const { internalApiToken: token } = parts;
  if (token !== null && parts.roles.has('api')) {
    http.register(async (scope) =>
      mountInternal(scope, {
        token,
        useCases: internalUseCases({ db, clock }),
        ...(parts.console && { readConsole: () => readConsole(db, clock.now()) }),
      }),
    );
  }
  return http;
}

function webhookParts({ db, clock, livemode, customerWebhooks }: AppParts) {
  const { secretKey, oldSecretKeys = [], ports, loopback, resolve = resolveByDns } = customerWebhooks;
  if (loopback && livemode)
    throw new Error('Webhooks to this machine are for development, not for live keys');
  return { db, clock, secretKey, oldSecretKeys, destinations: { resolve, ports, loopback } };
}

async function startWorker(parts: AppParts, metrics: Metrics): Promise<{ close(): Promise<void> }> {
  const { db, clock, log, gateway } = parts;
  const sync: SyncDeps = { db, gateway, clock, log, onAlarm: ({ kind }) => metrics.countAlarm(kind) };
  const expiry = startExpiry({ db, clock, log });
  const mailer = startMailer(sendDeps(parts));
  const accounts = startAccountCrew(sync);
  const ownerless = startOwnerCrew(sync);
  const poster = createPoster();
  // Without a key there is no endpoint that could be delivered to.
  const dispatcher =
    parts.customerWebhooks.secretKey &&
    startDispatcher({
      ...webhookParts(parts),
      log,
      post: poster.post,
      onAttempt: metrics.countDelivery,
    });
  const watch = watchDue(
    { db, clock, log },
    {
      endpoint: () => dispatcher?.wake(),
      account: accounts.wake,
      stripe_event: ownerless.wake,
      trial_pack: expiry.wake,
      email: mailer.wake,
    },
  );
  const checks = repeat(async () => void (await checkLedger({ db, clock, log })), {
    pauseMs: CHECK_PAUSE_MS,
    onError: (error) => log.error({ err: error }, 'the credit ledger could not be checked'),
  });
  const forgetting = repeat(() => forgetOldKeys({ db, clock }), {
    pauseMs: FORGET_PAUSE_MS,
    onError: (error) => log.error({ err: error }, 'old idempotency keys could not be deleted'),
  });
  const lookout = lookAfterStripe({
    ...sync,
    livemode: parts.livemode,
    onMissed: metrics.countCaughtUp,
    onDrift: (differences) => {
      for (const { kind } of differences) metrics.countDrift(kind);
    },
    sleep: (durationMs) => sleep(durationMs),
  });
  return {
    async close() {
      await Promise.all([
        accounts.close(),
        ownerless.close(),
        lookout.close(),
        checks.close(),
        forgetting.close(),
        watch.close(),
        expiry.close(),
        mailer.close(),
        dispatcher?.close(),
      ]);
      poster.close();
    },
  };
}

function sendDeps(parts: AppParts) {
  const { db, clock, log, email, emailFrom, linkOrigins, defaults } = parts;
  return {
    db,
    clock,
    log,
    from: emailFrom,
    resend: email && connectResend({ ...email, timeoutMs: RESEND_TIMEOUT_MS }),
    context: {
      links: allowLinksTo([...STRIPE_ORIGINS, ...linkOrigins]),
      billingUrl: defaults.portalReturnUrl,
    },
    pace: createSendingPace(db, {
      name: 'resend',
      perSecond: parts.emailsPerSecond ?? EMAILS_PER_SECOND,
    }),
  };
}
