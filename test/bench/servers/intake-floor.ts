import { createHmac, timingSafeEqual } from 'node:crypto';
import { createServer } from 'node:http';
import { Pool } from 'pg';
import { bodyOf, listen, options } from './door.ts';

/** The floor of the intake: the signature verified and the bytes inserted, once for each id, and nothing else. */
const { databaseUrl, poolMax, webhookSecret } = options();
const pool = new Pool({ connectionString: databaseUrl, max: poolMax });
await pool.query('create table raw_event (id text primary key, raw bytea not null)');

const server = createServer(async (request, response) => {
  const raw = await bodyOf(request);
  const [, time, given] =
    /^t=(\d+),v1=([0-9a-f]{64})$/.exec(String(request.headers['stripe-signature'])) ?? [];
  const expected = createHmac('sha256', webhookSecret).update(`${time}.`).update(raw).digest();
  if (given === undefined || !timingSafeEqual(expected, Buffer.from(given, 'hex'))) {
    response.writeHead(400, { 'content-length': 0 }).end();
    return;
  }
  await pool.query({
    name: 'floor-insert',
    text: 'insert into raw_event (id, raw) values ($1, $2) on conflict do nothing',
    values: [JSON.parse(raw.toString('utf8')).id, raw],
  });
  response.writeHead(200, { 'content-length': 2 }).end('{}');
});
listen(server, () => pool.end());
