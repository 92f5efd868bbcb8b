import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Database } from '../../server/database/connection.ts';
import { Email } from '../../server/database/entities/journal.ts';
import { claimBatch } from '../../server/notify/due-mails.ts';
import { queueEmail } from '../../server/notify/outbox.ts';
import { type SendDeps, sendBatch } from '../../server/notify/send.ts';

export type Answer = (response: ServerResponse, request: IncomingMessage) => void;

export type Provider = {
  server: Server;
  baseUrl: string;
  /** What to answer next, in turn. */
  answers: Answer[];
  requests: { path: string; key: string | undefined; body: string }[];
};

/** A stand-in for Resend on loopback: it keeps what it was sent and answers what it is told to. */
export async function startProvider(): Promise<Provider> {
  const answers: Answer[] = [];
  const requests: Provider['requests'] = [];
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(Buffer.from(chunk));
    const key = request.headers['idempotency-key'];
    requests.push({
      path: request.url ?? '',
      key: typeof key === 'string' ? key : undefined,
      body: Buffer.concat(chunks).toString(),
    });
    const answer = answers.shift();
    if (answer) answer(response, request);
    else response.writeHead(500).end();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('The provider has no port');
  return { server, baseUrl: `http://127.0.0.1:${address.port}`, answers, requests };
}

export const json =
  (status: number, body: unknown, headers: Record<string, string> = {}): Answer =>
  (response) =>
    response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body));
export const refusal = (statusCode: number, name: string, headers: Record<string, string> = {}): Answer =>
  json(statusCode, { statusCode, name, message: `${name} happened` }, headers);
export const hangUp: Answer = (_response, request) => request.socket.destroy();

/** Sends what is due now, a batch after another, as a worker does; answers how many there were. */
export async function sendDue(deps: SendDeps): Promise<number> {
  for (let batches = 0; ; batches += 1) {
    const batch = await claimBatch(deps.db);
    if (batch === null) return batches;
    await sendBatch(deps, batch);
  }
}

/** What waits for its next attempt waits no longer, and what a worker that died had is free. */
export async function passTime(db: Database): Promise<void> {
  await db.pool.query(
    "update email set due_at = date_trunc('milliseconds', now()), leased_until = null where due_at is not null",
  );
}

/** Queues one mail for each number, with the natural key `fact:<number>`, all in the order of their ids. */
export async function queueMany(
  db: Database,
  accountId: string,
  numbers: readonly number[],
  now: Date,
): Promise<void> {
  const plan = { tier: 'api_builder', billingPeriod: 'monthly' } as const;
  for (const number of numbers)
    await db.transaction((tx) =>
      queueEmail(
        tx,
        {
          ...{ accountId, to: `n${number}@example.com`, naturalKey: `fact:${number}` },
          ...{ template: 'subscription_resumed', data: { plan, next: null } },
        },
        new Date(now.getTime() + number),
      ),
    );
}

/** All mails, in the order in which they were queued. */
export async function mailRows(db: Database): Promise<Email[]> {
  return await db.orm.em.fork().find(Email, {}, { orderBy: { createdAt: 'asc', id: 'asc' } });
}

/** The same number of mails in one statement, each to an address of its own. */
export async function queueThousands(
  db: Database,
  accountId: string,
  count: number,
  now: Date,
): Promise<void> {
  await db.pool.query(
    `insert into email (id, account_id, natural_key, template, to_address, data, state, created_at, alone)
     select gen_random_uuid(), $1, 'many:' || n, 'subscription_resumed', 'n' || n || '@example.com', $2, 'pending', $3,
       false from generate_series(1, $4::int) n`,
    [accountId, { plan: { tier: 'api_builder', billingPeriod: 'monthly' }, next: null }, now, count],
  );
}
