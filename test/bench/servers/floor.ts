import { hash } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { Pool } from 'pg';
import { z } from 'zod';
import { serve } from './serve.ts';

/**
 * The floor of the read path: the same answer to the same question by plain node:http and one prepared
 * statement. No routing, no scopes, no limits, no validation, no metrics.
 */
const options = z
  .strictObject({ databaseUrl: z.string(), poolMax: z.int() })
  .parse(JSON.parse(process.argv[2] ?? ''));

const pool = new Pool({ connectionString: options.databaseUrl, max: options.poolMax });

const READ = {
  name: 'floor-read',
  text: `select s.id, s.tier, s.status, s.billing_period,
  (extract(epoch from s.current_period_start) * 1000)::float8 as period_start_ms,
  (extract(epoch from s.current_period_end) * 1000)::float8 as period_end_ms, s.cancel_at_period_end,
  t.state as pack_state, (extract(epoch from t.expires_at) * 1000)::float8 as pack_expires_ms,
  t.remaining_seconds
from api_key k
left join subscription s on s.account_id = k.account_id
left join trial_pack t on t.account_id = k.account_id
where k.hash = $1 and k.revoked_at is null`,
};

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const key = (request.headers.authorization ?? '').slice('Bearer '.length);
  const { rows } = await pool.query({ ...READ, values: [hash('sha256', key, 'buffer')] });
  const row = rows[0];
  if (!row) {
    response.writeHead(401, { 'content-length': 0 }).end();
    return;
  }
  const body = JSON.stringify({
    subscription: row.id && {
      id: `sub_${row.id}`,
      tier: row.tier,
      status: row.status,
      billing_period: row.billing_period,
      current_period_start: new Date(row.period_start_ms).toISOString(),
      current_period_end: new Date(row.period_end_ms).toISOString(),
      cancel_at_period_end: row.cancel_at_period_end,
    },
    trial_pack: {
      active: row.pack_state === 'active',
      credit_cents_remaining: Math.ceil((row.remaining_seconds ?? 0) / 200),
      expires_at: row.pack_state && new Date(row.pack_expires_ms).toISOString(),
      redeemed: row.pack_state !== null,
    },
  });
  const length = Buffer.byteLength(body);
  response.writeHead(200, { 'content-type': 'application/json', 'content-length': length }).end(body);
}

const server = createServer((request, response) => {
  answer(request, response).catch((error: unknown) =>
    response.destroy(error instanceof Error ? error : undefined),
  );
});
server.listen(0, '127.0.0.1', () => {
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('a TCP server has no port');
  serve(`http://127.0.0.1:${address.port}`, async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    await pool.end();
  });
});
