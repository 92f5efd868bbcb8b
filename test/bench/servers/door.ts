import type { IncomingMessage, Server } from 'node:http';
import { z } from 'zod';
import { serve } from './serve.ts';

const schema = z.strictObject({
  databaseUrl: z.string(),
  poolMax: z.int(),
  webhookSecret: z.string(),
  priceId: z.string(),
  /** Those that events will be about. */
  subscriptions: z.array(z.strictObject({ id: z.string(), customer: z.string() })),
});

/** What the servers are told that take in Stripe's events beside ours. */
export const options = () => schema.parse(JSON.parse(process.argv[2] ?? ''));

export async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** Listens on a free port and tells the parent; `close` ends what the server needed. */
export function listen(server: Server, close: () => Promise<void> = async () => undefined): void {
  server.listen(0, '127.0.0.1', () => {
    const address = server.address();
    if (address === null || typeof address === 'string') throw new Error('a TCP server has no port');
    serve(`http://127.0.0.1:${address.port}`, async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      await close();
    });
  });
}
