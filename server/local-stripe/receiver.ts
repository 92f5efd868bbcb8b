import { setTimeout as sleep } from 'node:timers/promises';
import type { FastifyInstance, FastifyReply } from 'fastify';
import type { World } from './world.ts';

/** How the receiver answers, by the last part of its address. */
export const RECEIVER_MODES = {
  '200': 'answers 200',
  '500': 'answers 500',
  '410': 'answers 410, which pauses the endpoint',
  slow: 'answers 200 after 8 seconds',
  never: 'never answers',
} as const;
type Mode = keyof typeof RECEIVER_MODES;

/** A webhook that arrived here. */
export type ReceivedWebhook = {
  readonly at: string;
  readonly mode: Mode;
  readonly type: string;
  readonly eventId: string;
  readonly signature: string;
  readonly body: string;
};

const KEPT = 30;
const SLOW_MS = 8_000;

/** Fastify plugin: an endpoint for customer webhooks, so that a developer need not write one first. */
export async function receiver(app: FastifyInstance, { world }: { world: World }): Promise<void> {
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', { parseAs: 'string', bodyLimit: 256 * 1024 }, (_request, body, done) =>
    done(null, body),
  );
  const closing = new AbortController();
  app.addHook('preClose', async () => closing.abort());
  app.post<{ Params: { mode: string } }>('/receiver/:mode', async (request, reply) => {
    const { mode } = request.params;
    if (!isMode(mode)) return reply.code(404).send('There is no receiver of this kind.');
    const header = (name: string): string => String(request.headers[name] ?? '');
    const webhook: ReceivedWebhook = {
      at: new Date(world.now() * 1_000).toISOString(),
      mode,
      type: header('x-driftstack-event-type'),
      eventId: header('x-driftstack-event-id'),
      signature: header('x-driftstack-signature'),
      body: typeof request.body === 'string' ? request.body : '',
    };
    world.hidden.put('receiver', 'log', { webhooks: [webhook, ...receivedWebhooks(world)].slice(0, KEPT) });
    return await answer(reply, mode, closing.signal);
  });
}

/** What arrived, newest first. */
export function receivedWebhooks(world: World): readonly ReceivedWebhook[] {
  return world.hidden.get<{ webhooks: ReceivedWebhook[] }>('receiver', 'log')?.webhooks ?? [];
}

async function answer(reply: FastifyReply, mode: Mode, closing: AbortSignal): Promise<FastifyReply> {
  switch (mode) {
    case '200':
    case '500':
    case '410':
      return reply.code(Number(mode)).send(`The receiver ${RECEIVER_MODES[mode]}.`);
    case 'slow':
      // Stopping ends the wait; nobody is there to hear the answer then.
      await sleep(SLOW_MS, undefined, { signal: closing }).catch(() => undefined);
      return reply.send('At last.');
    case 'never':
      // Fastify answers when a handler ends; this one gives the connection away instead.
      return reply.hijack();
  }
}

function isMode(text: string): text is Mode {
  return Object.hasOwn(RECEIVER_MODES, text);
}
