import { setTimeout as sleep } from 'node:timers/promises';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import { billingSettings, setBillingSettings } from './billing/settings.ts';
import { DECLINES, type DeclineName } from './cards.ts';
import type { Deliveries } from './deliveries.ts';
import { getDelivery, listDeliveries } from './delivery-log.ts';
import { closeDispute, openDispute } from './disputes.ts';
import { invalidRequest, StripeError } from './errors.ts';
import { faultOrder, times } from './fault-orders.ts';
import { orderApiFault } from './faults.ts';
import { internalFault } from './http.ts';
import { KINDS } from './kinds.ts';
import type { ClockMover } from './move-clock.ts';
import { declineNextPayments } from './ordered-declines.ts';
import { withoutUndefined } from './params.ts';
import { completeAuthentication, settleDelayed } from './payments.ts';
import { failRefund } from './refunds.ts';
import { errorAnswer, send } from './send.ts';
import { completeSetupAuthentication } from './setups.ts';
import { type CliListeners, listenSecret } from './stripe-cli.ts';
import { orderWebhookFault } from './webhook-faults.ts';
import type { World } from './world.ts';

/** How long `wait` may wait at most, in milliseconds. */
const LONGEST_WAIT_MS = 60_000;

const outcome = z.strictObject({ outcome: z.enum(['succeed', 'fail']) });
const settingsChange = z.strictObject({
  afterRetries: z.enum(['cancel', 'unpaid', 'past_due']).optional(),
  retryDays: z.array(z.int().min(1).max(60)).max(8).optional(),
  draftSeconds: z
    .int()
    .min(0)
    .max(72 * 3_600)
    .optional(),
});
const declineNames = Object.keys(DECLINES) as [DeclineName, ...DeclineName[]]; // Object.keys widens

/**
 * The hooks of the local Stripe for consoles and tests, all JSON in and out, under `/_sandbox`:
 *
 * - `GET /_sandbox` what there is: time, counts, faults, listeners, the secret of `stripe listen`
 * - `POST /clock` `{skipSeconds}` moves the local Stripe's own clock ahead, from one moment at which something falls due to
 *   the next, each with its webhooks; answers at the end
 * - `POST /faults` `{on: 'api', fault, method?, path?, times?}` or `{on: 'webhooks', fault, types?, times?}`;
 *   `GET /faults`, `DELETE /faults`
 * - `GET /deliveries?event=&endpoint=&status=&limit=`, `GET /deliveries/:id`, `POST /deliveries/:id/resend`,
 *   `POST /deliveries/wait` `{timeoutMs?}` answers once nothing is under way or due
 * - `POST /payment_intents/:id/settle` and `/authenticate`, `POST /setup_intents/:id/authenticate` `{outcome}`
 * - `POST /charges/:id/dispute` `{reason?, amount?}`, `POST /disputes/:id/close` `{outcome: 'won' | 'lost'}`
 * - `POST /refunds/:id/fail`
 * - `POST /customers/:id/decline_next` `{decline?, times?}` the bank refuses the next payments
 * - `POST /billing_settings` `{afterRetries?: 'cancel' | 'unpaid' | 'past_due', retryDays?, draftSeconds?}`: what
 *   Stripe's dashboard decides about failed renewals; `GET /billing_settings`
 * - `POST /reset` `{keepEndpoints?}` forgets everything, webhook endpoints excepted unless told
 *
 * A POST must be `application/json`, which no foreign web page can send without asking first.
 */
export async function control(
  app: FastifyInstance,
  options: { world: World; deliveries: Deliveries; listeners: CliListeners; mover: ClockMover },
): Promise<void> {
  const { world, deliveries, listeners, mover } = options;
  app.setErrorHandler((error, request, reply) => answerError(error, request, reply));
  app.addHook('onRequest', async (request) => {
    if (request.method === 'POST' && !request.headers['content-type']?.startsWith('application/json'))
      throw invalidRequest(
        'A POST to a hook must have the content type application/json, with {} for nothing.',
      );
  });

  app.get('/_sandbox', () => ({
    now: world.now(),
    aheadSeconds: world.aheadSeconds(),
    counts: Object.fromEntries(KINDS.map((kind) => [kind, world.store.count(kind)])),
    faults: faults(world),
    deliveriesUnderWay: deliveries.busy(),
    listeners: listeners.count(),
    listenSecret: listenSecret(world),
  }));

  app.post('/_sandbox/clock', async (request) => {
    const { skipSeconds } = parse(
      z.strictObject({ skipSeconds: z.int().min(0).max(400_000_000) }),
      request.body,
    );
    await mover.move((mover.target() ?? world.now()) + skipSeconds);
    deliveries.pump();
    return { now: world.now() };
  });

  app.get('/_sandbox/faults', () => faults(world));
  app.post('/_sandbox/faults', (request) => {
    const order = parse(faultOrder, request.body);
    return {
      id: order.on === 'api' ? orderApiFault(world, order) : orderWebhookFault(world, order),
      ...order,
    };
  });
  app.delete('/_sandbox/faults', () => {
    for (const name of ['api_fault', 'webhook_fault'])
      for (const { id } of world.hidden.all(name)) world.hidden.remove(name, id);
    return faults(world);
  });

  app.get('/_sandbox/deliveries', (request) => {
    const query = parse(
      z.strictObject({
        event: z.string().optional(),
        endpoint: z.string().optional(),
        status: z.enum(['pending', 'succeeded', 'failed', 'dropped']).optional(),
        limit: z.coerce.number().int().min(1).max(1_000).default(100),
      }),
      request.query,
    );
    return { data: listDeliveries(world, query) };
  });
  app.get('/_sandbox/deliveries/:id', (request) => getDelivery(world, idOf(request)));
  app.post('/_sandbox/deliveries/:id/resend', (request) => deliveries.resend(idOf(request)));
  app.post('/_sandbox/deliveries/wait', async (request) => {
    const { timeoutMs } = parse(
      z.strictObject({ timeoutMs: z.int().min(0).max(LONGEST_WAIT_MS).default(10_000) }),
      request.body ?? {},
    );
    const deadline = Date.now() + timeoutMs;
    while (deliveries.busy() > 0 && Date.now() < deadline) await sleep(5);
    return { idle: deliveries.busy() === 0 };
  });

  app.post('/_sandbox/payment_intents/:id/settle', (request) =>
    world.atomically(() => settleDelayed(world, idOf(request), parse(outcome, request.body).outcome)),
  );
  app.post('/_sandbox/payment_intents/:id/authenticate', (request) =>
    world.atomically(() =>
      completeAuthentication(world, idOf(request), parse(outcome, request.body).outcome),
    ),
  );
  app.post('/_sandbox/setup_intents/:id/authenticate', (request) =>
    world.atomically(() =>
      completeSetupAuthentication(world, idOf(request), parse(outcome, request.body).outcome),
    ),
  );
  app.post('/_sandbox/charges/:id/dispute', (request) => {
    const { reason, amount } = parse(
      z.strictObject({ reason: z.string().default('fraudulent'), amount: z.int().min(1).optional() }),
      request.body ?? {},
    );
    return world.atomically(() =>
      openDispute(world, idOf(request), { reason, ...(amount === undefined ? {} : { amount }) }),
    );
  });
  app.post('/_sandbox/disputes/:id/close', (request) => {
    const given = parse(z.strictObject({ outcome: z.enum(['won', 'lost']) }), request.body);
    return world.atomically(() => closeDispute(world, idOf(request), given.outcome));
  });
  app.post('/_sandbox/refunds/:id/fail', (request) =>
    world.atomically(() => failRefund(world, idOf(request))),
  );
  app.post('/_sandbox/customers/:id/decline_next', (request) => {
    const given = parse(
      z.strictObject({ decline: z.enum(declineNames).default('generic_decline'), times }),
      request.body ?? {},
    );
    const customer = world.get('customer', idOf(request));
    declineNextPayments(world, customer.id, given.decline, given.times);
    return { customer: customer.id, ...given };
  });

  app.get('/_sandbox/billing_settings', () => billingSettings(world));
  app.post('/_sandbox/billing_settings', (request) =>
    setBillingSettings(world, withoutUndefined(parse(settingsChange, request.body))),
  );

  app.post('/_sandbox/reset', (request) => {
    const { keepEndpoints } = parse(
      z.strictObject({ keepEndpoints: z.boolean().default(true) }),
      request.body ?? {},
    );
    resetWorld(world, keepEndpoints);
    deliveries.forget();
    return { now: world.now() };
  });
}

function resetWorld(world: World, keepEndpoints: boolean): void {
  const endpoints = keepEndpoints ? [...world.newestFirst('webhook_endpoint')].toReversed() : [];
  const kept = [
    'base_url',
    'cli_secret',
    'cli_session',
    ...(keepEndpoints ? ['webhook_secret'] : []),
  ].flatMap((name) => world.hidden.all<object>(name).map(({ id, value }) => ({ name, id, value })));
  world.reset();
  world.atomically(() => {
    for (const { name, id, value } of kept) world.hidden.put(name, id, value);
    for (const endpoint of endpoints) world.add('webhook_endpoint', endpoint);
  });
}

function faults(world: World): { api: readonly unknown[]; webhooks: readonly unknown[] } {
  const orders = (name: string) => world.hidden.all<object>(name).map(({ id, value }) => ({ id, ...value }));
  return { api: orders('api_fault'), webhooks: orders('webhook_fault') };
}

function idOf(request: FastifyRequest): string {
  return z.object({ id: z.string() }).parse(request.params).id;
}

function parse<S extends z.ZodType>(schema: S, given: unknown): z.output<S> {
  const parsed = schema.safeParse(given);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const param = issue?.path.join('.') ?? '';
  throw invalidRequest(`${param === '' ? 'body' : param}: ${issue?.message ?? 'invalid'}`, { param });
}

function answerError(error: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  if (error instanceof StripeError) return send(reply, errorAnswer(error));
  if (
    error instanceof Error &&
    'statusCode' in error &&
    typeof error.statusCode === 'number' &&
    error.statusCode < 500
  ) {
    const { statusCode: status, message } = error;
    return send(reply, errorAnswer(new StripeError({ status, type: 'invalid_request_error', message })));
  }
  request.log.error({ err: error }, 'a hook of the local Stripe failed');
  return send(reply, errorAnswer(internalFault(request.id)));
}
