import { randomBytes } from 'node:crypto';
import { type IncomingMessage, type Server, STATUS_CODES } from 'node:http';
import type { Duplex } from 'node:stream';
import type Stripe from 'stripe';
import { type WebSocket, WebSocketServer } from 'ws';
import { StripeError } from './errors.ts';
import { foreign, foreignRefusal } from './guard.ts';
import { arrayOf, params, text } from './params.ts';
import { type Route, route } from './route.ts';
import { errorAnswer } from './send.ts';
import { signature } from './webhook-request.ts';
import { API_VERSION, type World } from './world.ts';

const SUBSCRIBE = '/stripecli/subscribe';

/** Who runs `stripe listen` right now. */
export interface CliListeners {
  /** Sends an event to all of them once; the CLI forwards it to its own address. */
  send(event: Stripe.Event): void;
  count(): number;
  close(): void;
}

/** The session the Stripe CLI asks for before it connects. Its signing secret stays the same over restarts. */
export const stripeCliRoutes: Route[] = [
  route(
    'POST',
    '/v1/stripecli/sessions',
    params({
      device_name: text.optional(),
      filters: text.optional(),
      forward_connect_to_url: text.optional(),
      forward_thin_connect_to_url: text.optional(),
      forward_thin_to_url: text.optional(),
      forward_to_url: text.optional(),
      websocket_features: arrayOf(text).optional(),
    }),
    (world, given) => {
      const id = `cliws_${randomBytes(12).toString('hex')}`;
      world.hidden.put('cli_session', id, { created: world.now() });
      const { url } = world.hidden.get<{ url: string }>('base_url', 'self') ?? { url: '' };
      return {
        id,
        object: 'stripecli.session',
        default_version: API_VERSION,
        device_token: '',
        display_connect_filter_warning: false,
        latest_version: API_VERSION,
        reconnect_delay: 5,
        secret: listenSecret(world),
        websocket_authorized_feature: given.websocket_features?.[0] ?? 'webhooks',
        websocket_id: id,
        websocket_url: `${url.replace(/^http/, 'ws')}${SUBSCRIBE}`,
      };
    },
  ),
];

/** Serves the websocket of `stripe listen` on the local Stripe's own port; every other upgrade is refused. */
export function listenForCli(server: Server, world: World, clock: () => number): CliListeners {
  const sockets = new WebSocketServer({ noServer: true, maxPayload: 1024 * 1024 });
  server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    socket.on('error', () => socket.destroy());
    const why = foreign(request.headers);
    if (why !== null) return refuseUpgrade(socket, foreignRefusal(why));
    const known = world.hidden.get('cli_session', String(request.headers['websocket-id'])) !== undefined;
    if (!request.url?.startsWith(SUBSCRIBE) || !known) return refuseUpgrade(socket, UNKNOWN_SESSION);
    sockets.handleUpgrade(request, socket, head, (ws) => {
      // A broken connection closes by itself; the CLI connects again. Its acknowledgements need no answer.
      ws.on('error', () => ws.terminate());
    });
  });
  const send = (event: Stripe.Event): void => {
    for (const ws of sockets.clients) {
      // The CLI takes events of the default version or, with --latest, of the latest; which, only it knows.
      for (const version of [null, API_VERSION]) push(ws, world, event, version, clock);
    }
  };
  world.onEvent(send);
  return {
    send,
    count: () => sockets.clients.size,
    close() {
      for (const ws of sockets.clients) ws.terminate();
      sockets.close();
    },
  };
}

function push(
  ws: WebSocket,
  world: World,
  event: Stripe.Event,
  version: string | null,
  clock: () => number,
): void {
  const payload = JSON.stringify({ ...event, pending_webhooks: 1 });
  ws.send(
    JSON.stringify({
      endpoint: { api_version: version },
      event_payload: payload,
      http_headers: {
        'Content-Type': 'application/json; charset=utf-8',
        'User-Agent': 'Stripe/1.0 (local-stripe)',
        'Stripe-Signature': signature(listenSecret(world), payload, Math.floor(clock() / 1_000)),
      },
      type: 'webhook_event',
      webhook_conversation_id: `wc_${randomBytes(12).toString('hex')}`,
      webhook_id: `wh_${randomBytes(12).toString('hex')}`,
    }),
  );
}

/** The `whsec_…` that `stripe listen` prints. */
export function listenSecret(world: World): string {
  const known = world.hidden.get<{ secret: string }>('cli_secret', 'self');
  if (known) return known.secret;
  const secret = `whsec_${randomBytes(32).toString('hex')}`;
  world.hidden.put('cli_secret', 'self', { secret });
  return secret;
}

/** The CLI knows these words: it asks for a new session and connects again. */
const UNKNOWN_SESSION = new StripeError({
  status: 404,
  type: 'invalid_request_error',
  message: 'Unknown WebSocket ID.',
});

function refuseUpgrade(socket: Duplex, refusal: StripeError): void {
  const { status, body } = errorAnswer(refusal);
  socket.end(
    `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
  );
}
