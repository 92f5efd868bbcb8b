import { setTimeout as sleep } from 'node:timers/promises';
import type { FastifyInstance } from 'fastify';
import type { BillingDeps } from './billing/deps.ts';
import type { RedirectPolicy } from './billing/redirects.ts';
import type { Role } from './environment.ts';
import { buildHttp, buildOperations } from './http/app.ts';
import { mountInternal } from './http/internal-door.ts';
import type { RateLimits } from './http/limits.ts';
import { createMetrics, type Metrics } from './http/metrics.ts';
import { listenOn } from './http/server.ts';
import { readConsole } from './operator/console.ts';
import { watchClock } from './stripe/inbox/clock-watch.ts';
import { createEventStore } from './stripe/inbox/event-store.ts';
import { takeIn } from './stripe/inbox/intake.ts';
import type { Resolve } from './webhooks/destination.ts';
import { resolveByDns } from './webhooks/resolve.ts';
import type { SecretKeys } from './webhooks/secrets.ts';
import type { startWorker, WorkerParts } from './worker.ts';

export type AppParts = WorkerParts & {
  readonly roles: ReadonlySet<Role>;
  /** Read anew at each delivery, so that a local endpoint can be made after the port is known. */
  readonly webhookSecrets: () => readonly string[];
  readonly redirects: RedirectPolicy;
  readonly defaults: BillingDeps['defaults'];
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

/** How long load balancers get to see that we are leaving before connections are refused. */
const DRAIN_MS = 1_000;

/** Puts the service together; the only place that knows every room. Nothing listens until `listen`. */
export async function createApp(parts: AppParts): Promise<App> {
  let draining = false;
  const metrics = createMetrics(parts);
  const isDraining = () => draining;
  const webhooks = webhookParts(parts);
  const http = buildDoors(parts, webhooks, metrics, isDraining);
  const { db, clock, log } = parts;
  const operations = parts.operationsApart ? buildOperations({ db, clock, log, metrics, isDraining }) : null;
  const worker = parts.roles.has('worker') ? await openWorker(parts, webhooks, metrics) : null;
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

/** Read only where it works: a process that only answers goes without mails, passes and deliveries. */
async function openWorker(...given: Parameters<typeof startWorker>): Promise<{ close(): Promise<void> }> {
  const { startWorker } = await import('./worker.ts');
  return startWorker(...given);
}

function buildDoors(
  parts: AppParts,
  webhookDeps: ReturnType<typeof webhookParts>,
  metrics: Metrics,
  isDraining: () => boolean,
): FastifyInstance {
  const { db, clock, log, gateway, redirects, defaults, livemode } = parts;
  const onAlarm: BillingDeps['onAlarm'] = ({ kind }) => metrics.countAlarm(kind);
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
        deps: { ...webhookDeps, commit: db.transactionOn, gateway, redirects, defaults, log, onAlarm },
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
        deps: { db, clock },
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
