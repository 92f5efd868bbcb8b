import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createAccount } from '../../server/billing/accounts.ts';
import { connectDatabase } from '../../server/database/connection.ts';
import { watchDue } from '../../server/database/due.ts';
import type { Series } from '../../server/database/recurring.ts';
import { listDeliveries } from '../../server/webhooks/deliveries.ts';
import type { WebhookCaller, WebhookDeps } from '../../server/webhooks/deps.ts';
import { type Dispatcher, startDispatcher } from '../../server/webhooks/dispatch.ts';
import {
  createEndpoint,
  deleteEndpoint,
  rotateSecret,
  updateEndpoint,
} from '../../server/webhooks/endpoints.ts';
import { getEndpoint, listEndpoints } from '../../server/webhooks/list-endpoints.ts';
import { listEvents } from '../../server/webhooks/list-events.ts';
import { createPoster } from '../../server/webhooks/post.ts';
import { recordEvent } from '../../server/webhooks/record-event.ts';
import { replayDelivery, replayEvents, testEndpoint } from '../../server/webhooks/replay.ts';
import type { EventListInput, EventNews, EventType } from '../../shared/events.ts';
import type { DeliveryListInput, ReplayInput } from '../../shared/webhook-deliveries.ts';
import type { CreateEndpointInput, EndpointListInput, UpdateEndpointInput } from '../../shared/webhooks.ts';
import { createTestDatabase } from './database.ts';
import { WEBHOOK_KEY } from './http.ts';
import { NOW, quietLog } from './stripe.ts';

export type Received = { path: string; headers: IncomingHttpHeaders; body: string };
export type Receiver = Awaited<ReturnType<typeof startReceiver>>;

/** An endpoint of a customer: keeps what it was sent and answers as it is told, 200 unless told otherwise. */
export async function startReceiver() {
  const received: Received[] = [];
  let answer: (got: Received, response: ServerResponse) => void = (_got, response) => response.end('ok');
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    const got = { path: request.url ?? '', headers: request.headers, body: Buffer.concat(chunks).toString() };
    received.push(got);
    answer(got, response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  // A server that listens on a port has an address with one.
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}/in`,
    received,
    answer(as: typeof answer | number, headers: Record<string, string> = {}) {
      answer =
        typeof as === 'number' ? (_got, response) => response.writeHead(as, headers).end(`answer ${as}`) : as;
    },
    close: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

/** What may be asked of endpoints, deliveries and the feed, in few words. */
export function webhookCalls(deps: WebhookDeps) {
  return {
    listEvents: (accountId: string, input: EventListInput) => listEvents(deps.db, accountId, input),
    list: (accountId: string, input: EndpointListInput) => listEndpoints(deps, accountId, input),
    get: (accountId: string, input: { id: string }) => getEndpoint(deps, accountId, input),
    listDeliveries: (accountId: string, input: DeliveryListInput) => listDeliveries(deps, accountId, input),
    create: (caller: WebhookCaller, input: CreateEndpointInput) => createEndpoint(deps, caller, input),
    update: (caller: WebhookCaller, input: UpdateEndpointInput) => updateEndpoint(deps, caller, input),
    delete: (caller: WebhookCaller, input: { id: string }) => deleteEndpoint(deps, caller, input),
    test: (caller: WebhookCaller, input: { id: string }) => testEndpoint(deps, caller, input),
    rotateSecret: (caller: WebhookCaller, input: { id: string }) => rotateSecret(deps, caller, input),
    replay: (caller: WebhookCaller, input: ReplayInput) => replayEvents(deps, caller, input),
    replayDelivery: (caller: WebhookCaller, input: { id: string }) => replayDelivery(deps, caller, input),
  };
}

export type WebhookBench = Awaited<ReturnType<typeof openWebhookBench>>;

/** A database of its own, what may be asked of webhooks, and as many dispatchers as a test starts, on a clock that it sets. */
export async function openWebhookBench() {
  const database = await createTestDatabase();
  const db = await connectDatabase({ url: database.url, poolMax: 20, applicationName: 'test-webhooks' });
  const time = { now: NOW };
  const clock = { now: () => time.now };
  const log = quietLog();
  const deps: WebhookDeps = {
    db,
    commit: db.transactionOn,
    clock,
    secretKey: WEBHOOK_KEY,
    destinations: { resolve: async () => [], ports: [], loopback: true },
  };
  const poster = createPoster();
  const dispatchers: Dispatcher[] = [];
  const watches: Series[] = [];
  const receivers: Receiver[] = [];
  let accounts = 0;
  let facts = 0;
  return {
    db,
    deps,
    time,
    use: webhookCalls(deps),
    post: poster.post,
    async accounts(): Promise<{ accountId: string }[]> {
      const { rows } = await db.pool.query<{ accountId: string }>('select id as "accountId" from account');
      return rows;
    },
    async addAccount(): Promise<WebhookCaller> {
      const email = `webhooks-${++accounts}@example.com`;
      const { id } = await db.transaction((tx) => createAccount(tx, { email, now: time.now }));
      return { accountId: id, keyId: '01890a5d-ac96-774b-bcce-b302099a8057', requestId: 'req_1' };
    },
    /** Something happened to an account. */
    tell: (accountId: string, type: EventType = 'subscription.changed') =>
      db.transaction((tx) =>
        recordEvent(tx, { accountId, news: newsOf(type), dedupeKey: `fact-${++facts}`, now: time.now }),
      ),
    async receiver(): Promise<Receiver> {
      const receiver = await startReceiver();
      receivers.push(receiver);
      return receiver;
    },
    dispatch(over: Partial<Parameters<typeof startDispatcher>[0]> = {}): Dispatcher {
      const dispatcher = startDispatcher({ ...deps, log, post: poster.post, ...over });
      dispatchers.push(dispatcher);
      watches.push(watchDue({ db, clock: deps.clock, log }, { endpoint: dispatcher.wake }));
      return dispatcher;
    },
    /** As when whoever has endpoints in hand shows no sign of life for long enough. */
    endLeases: () =>
      db.pool.query(
        "update webhook_endpoint set leased_until = now() - interval '1 second' where lease_id is not null",
      ),
    pass(minutes: number) {
      time.now = new Date(time.now.getTime() + minutes * 60_000);
    },
    async close() {
      for (const watch of watches) await watch.close();
      for (const dispatcher of dispatchers) await dispatcher.close();
      for (const receiver of receivers) await receiver.close();
      poster.close();
      await db.close();
      await database.drop();
    },
  };
}

const SUBSCRIPTION = {
  id: 'sub_01890a5d-ac96-774b-bcce-b302099a8057',
  tier: 'api_builder',
  status: 'active',
  billing_period: 'monthly',
  current_period_start: '2026-05-01T00:00:00Z',
  current_period_end: '2026-06-01T00:00:00Z',
  cancel_at_period_end: false,
} as const;
const PACK = {
  active: true,
  credit_cents_remaining: 299,
  expires_at: '2026-05-15T00:00:00Z',
  redeemed: true,
} as const;

export function newsOf(type: EventType): EventNews {
  switch (type) {
    case 'subscription.changed':
    case 'subscription.cancelled':
      return { type, data: { subscription: SUBSCRIPTION, previous: { tier: 'api_starter' } } };
    case 'trial_pack.purchased':
    case 'trial_pack.expired':
      return { type, data: { trial_pack: PACK, previous: null } };
  }
}
