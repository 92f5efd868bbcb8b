import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import Stripe from 'stripe';
import { onTestFinished } from 'vitest';
import { type LocalStripe, startLocalStripe } from '../../local-stripe.ts';

/** A local Stripe on a free port with the real client; closed when the test ends. */
export async function localStripeWithClient(
  options: { dataPath?: string; clock?: () => number } = {},
): Promise<{ localStripe: LocalStripe; stripe: Stripe; hook: Hook }> {
  const localStripe = await startLocalStripe({ port: 0, dataPath: ':memory:', ...options });
  onTestFinished(() => localStripe.close());
  return { localStripe, stripe: clientOf(localStripe.port), hook: hookOf(localStripe.url) };
}

export function clientOf(
  port: number,
  options: { maxNetworkRetries?: number; timeout?: number } = {},
): Stripe {
  return new Stripe('sk_test_123', {
    host: '127.0.0.1',
    port,
    protocol: 'http',
    maxNetworkRetries: 0,
    timeout: 30_000,
    telemetry: false,
    ...options,
  });
}

export type Hook = (
  path: string,
  body?: object,
) => Promise<{ status: number; json: Record<string, unknown> }>;

/** Posts to a hook of the local Stripe; without a body, gets. */
export function hookOf(url: string): Hook {
  return async (path, body) => {
    const answer = await fetch(`${url}/_sandbox${path}`, {
      ...(body === undefined
        ? {}
        : { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }),
    });
    return { status: answer.status, json: Object(await answer.json()) };
  };
}

export interface Received {
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
}

/** A webhook receiver. `answer` says what to reply; null never answers. */
export async function receiver(
  answer: (received: Received, count: number) => number | null = () => 200,
): Promise<{ url: string; received: Received[] }> {
  const received: Received[] = [];
  const server = createServer((request, response) => {
    let body = '';
    request.setEncoding('utf8');
    request.on('data', (chunk: string) => {
      body += chunk;
    });
    request.on('end', () => {
      const one = { headers: request.headers, body };
      received.push(one);
      const status = answer(one, received.length);
      if (status !== null) response.writeHead(status).end('seen');
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(
    () =>
      new Promise<void>((resolve) => {
        server.closeAllConnections();
        server.close(() => resolve());
      }),
  );
  const { port } = server.address() as AddressInfo; // a TCP server has this kind of address
  return { url: `http://127.0.0.1:${port}/hook`, received };
}

/** Polls until `condition` holds; fails with its description after the deadline. */
export async function eventually(
  what: string,
  condition: () => boolean | Promise<boolean>,
  timeoutMs = 25_000,
) {
  const deadline = Date.now() + timeoutMs;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`not within ${timeoutMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** The StripeError a call is refused with. */
export async function refusal(call: Promise<unknown>): Promise<Stripe.errors.StripeError> {
  try {
    await call;
  } catch (error) {
    if (error instanceof Stripe.errors.StripeError) return error;
    throw error;
  }
  throw new Error('the call was not refused');
}
