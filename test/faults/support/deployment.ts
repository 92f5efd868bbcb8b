import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import Fastify from 'fastify';
import type { BillingDeps, MintingCall } from '../../../server/billing/deps.ts';
import { parseAllowlist } from '../../../server/billing/redirects.ts';
import { connectDatabase, type Database } from '../../../server/database/connection.ts';
import { uuidv7 } from '../../../server/database/uuid.ts';
import { type LocalStripe, startLocalStripe } from '../../../server/local-stripe/local-stripe.ts';
import { mailbox } from '../../../server/local-stripe/mailbox.ts';
import { connectStripe } from '../../../server/stripe/api/gateway.ts';
import { isHandled } from '../../../server/stripe/events.ts';
import { setUpStripe } from '../../../server/stripe/set-up.ts';
import { createTestDatabase } from '../../support/database.ts';
import { collect, spawnMain, untilTrue } from '../../support/service.ts';
import { quietLog, sign, WEBHOOK_SECRET } from '../../support/stripe.ts';

/** `server/main.ts` in a process of its own, as an operator runs it. */
export type Instance = {
  readonly url: string;
  readonly process: ChildProcess;
  output(): string;
  kill(): Promise<void>;
  /** SIGTERM; resolves with the exit code. */
  stop(): Promise<number | null>;
};

/** The service as it is deployed: its instances share a PostgreSQL, and Stripe and Resend are elsewhere. */
export type Deployment = {
  readonly databaseUrl: string;
  readonly db: Database;
  readonly localStripe: LocalStripe;
  /** What our own calls to Stripe need, in this process. */
  readonly billing: BillingDeps;
  /** Bodies of the events that Stripe has told so far; whoever delivers one takes it out. */
  readonly told: string[];
  start(env?: Record<string, string>): Promise<Instance>;
  close(): Promise<void>;
};

export const STRIPE_KEY = 'sk_test_faults12345678';
const RESEND_KEY = 're_faults_12345678';

type Options = {
  /** Somebody else's, and migrated; one of its own otherwise. */
  databaseUrl?: string;
  /** What Resend allows; more than anybody sends unless given. */
  mailsPerSecond?: number;
};

export async function openDeployment({
  mailsPerSecond = 1_000,
  ...given
}: Options = {}): Promise<Deployment> {
  const own = given.databaseUrl === undefined ? await createTestDatabase() : null;
  const databaseUrl = given.databaseUrl ?? own?.url ?? '';
  const db = await connectDatabase({ url: databaseUrl, poolMax: 10, applicationName: 'driftstack-test' });
  const localStripe = await startLocalStripe({ port: 0, dataPath: ':memory:' });
  const gateway = connectStripe({ secretKey: STRIPE_KEY, apiBase: localStripe.url });
  await setUpStripe(gateway, { webhookUrl: null });
  const told: string[] = [];
  localStripe.world.onEvent((event) => {
    if (isHandled(event.type)) told.push(JSON.stringify(event));
  });
  const resend = Fastify();
  await resend.register(mailbox, {
    world: localStripe.world,
    clock: Date.now,
    requestsPerSecond: mailsPerSecond,
  });
  const resendUrl = await resend.listen({ port: 0, host: '127.0.0.1' });
  const instances = new Set<Instance>();
  return {
    databaseUrl,
    db,
    localStripe,
    told,
    billing: {
      db,
      gateway,
      clock: { now: () => new Date() },
      log: quietLog(),
      redirects: parseAllowlist(['https://your.app']),
      defaults: {
        checkoutSuccessUrl: 'https://your.app/ok',
        checkoutCancelUrl: 'https://your.app/back',
        portalReturnUrl: 'https://your.app/billing',
      },
    },
    async start(env = {}) {
      const instance = await startInstance({
        PORT: '0',
        DATABASE_URL: databaseUrl,
        STRIPE_SECRET_KEY: STRIPE_KEY,
        STRIPE_API_BASE: localStripe.url,
        STRIPE_WEBHOOK_SECRETS: WEBHOOK_SECRET,
        RESEND_API_KEY: RESEND_KEY,
        RESEND_BASE_URL: resendUrl,
        BILLING_REDIRECT_ALLOWLIST: 'https://your.app',
        CHECKOUT_SUCCESS_URL: 'https://your.app/ok',
        CHECKOUT_CANCEL_URL: 'https://your.app/back',
        PORTAL_RETURN_URL: 'https://your.app/billing',
        ...env,
      });
      instances.add(instance);
      return instance;
    },
    async close() {
      for (const instance of instances) await instance.kill();
      await db.close();
      await localStripe.close();
      await resend.close();
      await own?.drop();
    },
  };
}

async function startInstance(env: Record<string, string>): Promise<Instance> {
  const child = spawnMain(env);
  const output = collect(child);
  const ended = once(child, 'exit');
  const isOver = () => child.exitCode !== null || child.signalCode !== null;
  let url: string | undefined;
  await untilTrue(() => {
    url = /"url":"(http[^"]+)"/.exec(output())?.[1];
    if (isOver() && url === undefined) throw new Error(`the instance ended:\n${output()}`);
    return url !== undefined;
  }, 60_000);
  const end = async (signal: 'SIGKILL' | 'SIGTERM') => {
    if (!isOver()) {
      child.kill(signal);
      await ended;
    }
    return child.exitCode;
  };
  return {
    url: url ?? '',
    process: child,
    output,
    async kill() {
      await end('SIGKILL');
    },
    stop: () => end('SIGTERM'),
  };
}

/** A call that mints, made by nobody in particular. */
export function callOf(accountId: string): MintingCall {
  return { accountId, keyId: uuidv7(new Date()), requestId: 'req_1', idempotencyKey: null };
}

/** Delivers a signed event once; whether it was acknowledged. */
export async function post(url: string, body: string): Promise<boolean> {
  try {
    const response = await fetch(`${url}/webhooks/stripe`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'stripe-signature': sign(body, new Date()) },
      body,
      signal: AbortSignal.timeout(10_000),
    });
    await response.arrayBuffer();
    return response.ok;
  } catch (error) {
    // The instance died or is not back yet: Stripe would try again as well.
    if (error instanceof TypeError || error instanceof DOMException) return false;
    throw error;
  }
}
