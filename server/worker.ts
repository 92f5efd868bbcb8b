import type { Logger } from 'pino';
import type { Clock } from '../shared/time.ts';
import type { BillingDeps } from './billing/deps.ts';
import { forgetOldKeys } from './billing/idempotency.ts';
import type { RealEmail } from './config.ts';
import { checkLedger } from './credit/check.ts';
import { startExpiry } from './credit/expire.ts';
import type { Database } from './database/connection.ts';
import { watchDue } from './database/due.ts';
import { repeat } from './database/recurring.ts';
import type { Metrics } from './http/metrics.ts';
import { allowLinksTo, STRIPE_ORIGINS } from './notify/links.ts';
import { startMailer } from './notify/mailer.ts';
import { connectResend } from './notify/resend.ts';
import { createSendingPace } from './notify/sending-pace.ts';
import type { StripeGateway } from './stripe/api/gateway.ts';
import type { SyncDeps } from './stripe/deps.ts';
import { lookAfterStripe } from './stripe/repair/look-after.ts';
import { startAccountCrew, startOwnerCrew } from './stripe/sync/worker.ts';
import { type DispatchDeps, startDispatcher } from './webhooks/dispatch.ts';
import { createPoster } from './webhooks/post.ts';

export type WorkerParts = {
  /** Connected and up to date; closed by whoever opened it. */
  readonly db: Database;
  readonly gateway: StripeGateway;
  readonly clock: Clock;
  readonly log: Logger;
  readonly livemode: boolean;
  /** Where a mail sends its reader to, if anywhere. */
  readonly defaults: Pick<BillingDeps['defaults'], 'portalReturnUrl'>;
  /** Where mails may lead besides Stripe's own pages. */
  readonly linkOrigins: readonly string[];
  /** Null where this deployment sends no mails. */
  readonly email: RealEmail | null;
  readonly emailFrom: string;
  /** Default: what Resend allows a new account. */
  readonly emailsPerSecond?: number;
};

const RESEND_TIMEOUT_MS = 10_000;
/** Resend's limit for a new account. */
const EMAILS_PER_SECOND = 2;
/** How often a process looks whether a check is due. */
const CHECK_PAUSE_MS = 60_000;
/** How often idempotency keys whose day is over are deleted. */
const FORGET_PAUSE_MS = 600_000;

/**
 * Starts what works by itself: accounts and events that are due, mails, deliveries, expiry, checks, and the
 * comparison with Stripe. Closing takes no new work and finishes what is under way.
 */
export function startWorker(
  parts: WorkerParts,
  webhooks: Omit<DispatchDeps, 'log' | 'post' | 'onAttempt'>,
  metrics: Metrics,
): { close(): Promise<void> } {
  const { db, clock, log, gateway } = parts;
  const sync: SyncDeps = { db, gateway, clock, log, onAlarm: ({ kind }) => metrics.countAlarm(kind) };
  const expiry = startExpiry({ db, clock, log });
  const mailer = startMailer(sendDeps(parts));
  const accounts = startAccountCrew(sync);
  const ownerless = startOwnerCrew(sync);
  const poster = createPoster();
  // Without a key there is no endpoint that could be delivered to.
  const dispatcher =
    webhooks.secretKey &&
    startDispatcher({
      ...webhooks,
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

function sendDeps(parts: WorkerParts) {
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
