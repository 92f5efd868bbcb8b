import { createServer } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { original, retold } from '../virtual.ts';
import { bodyOf, listen } from './door.ts';

/**
 * A Stripe that answers reads from memory, as far away as it is told: what the local Stripe has answered once about
 * its one customer is told again about all that are like him.
 */
const { stripeUrl, delayMs } = z
  .strictObject({ stripeUrl: z.string(), delayMs: z.number() })
  .parse(JSON.parse(process.argv[2] ?? ''));

type Answer = { status: number; body: string };
const known = new Map<string, Promise<Answer>>();
const readAtMs: number[] = [];

async function forward(method: string, path: string, headers: Headers, body: string): Promise<Answer> {
  const init = method === 'GET' ? { method, headers } : { method, headers, body };
  const answer = await fetch(`${stripeUrl}${path}`, init);
  return { status: answer.status, body: await answer.text() };
}

const server = createServer(async (request, response) => {
  const { method = 'GET', url = '/' } = request;
  const raw = (await bodyOf(request)).toString('utf8');
  if (url === '/_echo') {
    const body = JSON.stringify({ reads: readAtMs.length, mostInASecond: mostInASecond(readAtMs) });
    readAtMs.length = 0;
    response.writeHead(200, { 'content-type': 'application/json' }).end(body);
    return;
  }
  readAtMs.push(performance.now());
  const path = original(url);
  const body = original(raw);
  const number = path.number ?? body.number;
  const headers = new Headers();
  for (const name of ['authorization', 'content-type', 'stripe-version']) {
    const value = request.headers[name];
    if (typeof value === 'string') headers.set(name, value);
  }
  const isRead = method === 'GET';
  const answered = (isRead && known.get(path.text)) || forward(method, path.text, headers, body.text);
  if (isRead) known.set(path.text, answered);
  const [answer] = await Promise.all([answered, delayMs > 0 && sleep(delayMs)]);
  const text = number === null ? answer.body : retold(answer.body, number);
  response
    .writeHead(answer.status, {
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(text),
    })
    .end(text);
});
listen(server);

/** How many at most began within any one second. */
function mostInASecond(momentsMs: readonly number[]): number {
  let most = 0;
  let from = 0;
  momentsMs.forEach((moment, index) => {
    while (moment - (momentsMs[from] ?? moment) >= 1_000) from += 1;
    most = Math.max(most, index - from + 1);
  });
  return most;
}
