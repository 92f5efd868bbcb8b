import Fastify, { type FastifyBaseLogger } from 'fastify';
import { answerEverything, badRequestOnSocket, refuse } from './answers.ts';
import { registerBilling } from './billing/lifecycle.ts';
import { control } from './control.ts';
import { deliverWebhooks } from './deliveries.ts';
import { guardAllDoors } from './guard.ts';
import { api } from './http.ts';
import { forgetOldIdempotencyKeys } from './idempotency.ts';
import { type ClockMover, moveClock, noteReached, standBack } from './move-clock.ts';
import { openWorld } from './open-world.ts';
import { pages } from './pages/pages.ts';
import type { Product } from './pages/product.ts';
import { registerPaymentMethods } from './payment-methods.ts';
import { registerPayments } from './payments.ts';
import { receiver } from './receiver.ts';
import { INCLUDES, routes } from './routes.ts';
import { listenForCli } from './stripe-cli.ts';
import { runTestClocks } from './test-clocks.ts';
import type { World } from './world.ts';

/** Who answers alarms and follows events. Called once, before the first request. */
const REGISTER: readonly ((world: World) => void)[] = [
  registerPayments,
  registerPaymentMethods,
  registerBilling,
];

export interface LocalStripeOptions {
  /** 0 takes any free port. */
  readonly port: number;
  /** Loopback only; anything else is refused. */
  readonly host?: '127.0.0.1' | '::1' | 'localhost';
  /** SQLite file, or ':memory:'. */
  readonly dataPath: string;
  /** Real time in milliseconds. */
  readonly clock?: () => number;
  readonly log?: FastifyBaseLogger;
  /** The product whose accounts the console shows beside Stripe's side. */
  readonly product?: Product | null;
  /** Lets the clock stand where it was left until a program follows it, so that it sees everything in order. */
  readonly awaitsFollower?: boolean;
  /** How many requests a second the mailbox takes; default 2, as Resend does of a new account. */
  readonly mailsPerSecond?: number;
}

export interface LocalStripe {
  readonly url: string;
  readonly port: number;
  readonly world: World;
  /** Every route there is. */
  readonly doors: readonly { readonly method: string; readonly url: string }[];
  /** Its own clock: how it is moved, and who lives in its time. */
  readonly clock: ClockMover;
  close(): Promise<void>;
}

/** Starts the local Stripe on a loopback port; it answers when the promise resolves. */
export async function startLocalStripe(options: LocalStripeOptions): Promise<LocalStripe> {
  const {
    port,
    host = '127.0.0.1',
    dataPath,
    clock = Date.now,
    log,
    product = null,
    mailsPerSecond,
  } = options;
  if (!LOOPBACK.has(host)) throw new Error(`the local Stripe listens on loopback only, not on ${host}`);
  const world = openWorld({ path: dataPath, clock });
  for (const register of REGISTER) register(world);

  const app = Fastify({
    ...(log ? { loggerInstance: log } : {}),
    bodyLimit: 1024 * 1024,
    forceCloseConnections: true,
    clientErrorHandler: badRequestOnSocket,
    routerOptions: { maxParamLength: 500 },
    frameworkErrors: refuse,
  });
  const onFailure = (error: unknown): void => app.log.error({ err: error }, 'the local Stripe failed');
  const deliveries = deliverWebhooks(world, { clock, onFailure });
  const listeners = listenForCli(app.server, world, clock);
  const mover = moveClock(world, deliveries, {
    onFailure,
    behindSeconds: options.awaitsFollower ? standBack(world) : null,
  });
  const doors: { method: string; url: string }[] = [];
  app.addHook('onRoute', ({ method, url }) => {
    for (const one of [method].flat()) doors.push({ method: one, url });
  });
  guardAllDoors(app);
  answerEverything(app);
  await app.register(api, { world, routes: routes(deliveries, listeners), includes: INCLUDES });
  await app.register(control, { world, deliveries, listeners, mover });
  await app.register(pages, {
    world,
    deliveries,
    clock,
    product,
    mover,
    ...(mailsPerSecond && { requestsPerSecond: mailsPerSecond }),
  });
  await app.register(receiver, { world });
  let stopClocks = (): void => {};
  const stop = async (): Promise<void> => {
    await mover.close();
    stopClocks();
    deliveries.close();
    listeners.close();
    await app.close();
    world.close();
  };

  try {
    await app.listen({ port, host });
  } catch (error) {
    await stop();
    throw error;
  }
  const address = app.server.address();
  const actual = typeof address === 'object' && address !== null ? address.port : port;
  const url = `http://${host === '::1' ? '[::1]' : host}:${actual}`;
  world.hidden.put('base_url', 'self', { url });

  const tick = (): void => {
    if (mover.isStanding()) return;
    try {
      world.runUntil(world.now(), null);
      deliveries.pump();
    } catch (error) {
      // An alarm that fails is rolled back and rings again in a second: reported, it must not end the process.
      onFailure(error);
    }
  };
  tick();
  stopClocks = runTestClocks(world, onFailure);
  const second = setInterval(tick, 1_000).unref();
  const minute = setInterval(() => mover.isStanding() || noteReached(world), 60_000).unref();
  const hour = setInterval(() => forgetOldIdempotencyKeys(world), 3_600_000).unref();
  return {
    url,
    port: actual,
    world,
    doors,
    clock: mover,
    async close() {
      clearInterval(second);
      clearInterval(minute);
      if (!mover.isStanding()) noteReached(world);
      clearInterval(hour);
      await stop();
    },
  };
}

const LOOPBACK: ReadonlySet<string> = new Set(['127.0.0.1', '::1', 'localhost']);
