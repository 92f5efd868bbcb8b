import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from 'pg';
import { newSecret, prefixOf, seal } from '../../../server/webhooks/secrets.ts';
import type { Child } from '../child.ts';
import { seedAccounts, withClient } from '../database.ts';
import { inParallel } from '../local-stripe.ts';
import type { Bench, Report } from '../section.ts';
import { sized } from '../settings.ts';
import { median, slope } from '../statistics.ts';
import { figure, mebibytes } from '../table.ts';

const ENDPOINTS = 40;
const WARM_UP_EACH = sized(100, 5);
const ROUNDS = sized(5, 2);
const PER_ROUND_EACH = sized(500, 20);
const DEADLINE_MS = 120_000;

type Round = { deliveredPerSecond: number; fetchPerSecond: number };
type Sample = { deliveries: number; heapBytes: number };

/** Events delivered to fast endpoints of this machine, signed and written down, against plain fetch. */
export async function fanOut(bench: Bench): Promise<Report> {
  const databaseUrl = await bench.createDatabase();
  await seedAccounts(databaseUrl, ENDPOINTS);
  const receiver = await bench.startChild('receiver', {});
  const secretKey = randomBytes(32);
  await withClient(databaseUrl, (client) => register(client, `${receiver.url}/in`, secretKey));
  const worker = await bench.startChild('webhooks', {
    databaseUrl,
    poolMax: 20,
    secretKey: secretKey.toString('base64'),
  });
  bench.say('fan-out: warming up');
  await withClient(databaseUrl, (client) => deliver(client, WARM_UP_EACH));
  const samples: Sample[] = [{ deliveries: 0, heapBytes: (await worker.memory()).heapBytes }];
  const rounds: Round[] = [];
  for (let round = 1; round <= ROUNDS; round += 1) {
    bench.say(`fan-out: round ${round} of ${ROUNDS}`);
    const deliveredPerSecond = await withClient(databaseUrl, (client) => deliver(client, PER_ROUND_EACH));
    rounds.push({ deliveredPerSecond, fetchPerSecond: await fetchAll(receiver) });
    const deliveries = round * ENDPOINTS * PER_ROUND_EACH;
    samples.push({ deliveries, heapBytes: (await worker.memory()).heapBytes });
  }
  const { peakRssBytes } = await worker.memory();
  await worker.close();
  await receiver.close();
  return report(rounds, samples, peakRssBytes);
}

async function register(client: Client, url: string, secretKey: Buffer): Promise<void> {
  const { rows } = await client.query<{ id: string }>('select id from account');
  for (const { id: accountId } of rows) {
    // One endpoint for each account, under the id of the account: seeded rows need no other.
    const secret = newSecret();
    await client.query(
      `insert into webhook_endpoint (id, account_id, position, url, events, secret, secret_prefix, created_at)
       values ($1, $1, 0, $2, '{subscription.changed}', $3, $4, now())`,
      [accountId, url, seal(secretKey, accountId, secret), prefixOf(secret)],
    );
  }
}

const DATA = {
  subscription: {
    id: 'sub_01890a5d-ac96-774b-bcce-b302099a8057',
    tier: 'api_builder',
    status: 'active',
    billing_period: 'monthly',
    current_period_start: '2026-05-01T00:00:00Z',
    current_period_end: '2026-06-01T00:00:00Z',
    cancel_at_period_end: false,
  },
  previous: { tier: 'api_starter' },
};

/** Queues so many events for every endpoint and answers how many a second arrived until all had. */
async function deliver(client: Client, each: number): Promise<number> {
  await client.query(
    `with told as (
       insert into event (id, account_id, sequence, type, data, dedupe_key, emitted_at)
       select gen_random_uuid(), a.id, a.event_sequence + n, 'subscription.changed', $2, gen_random_uuid(), now()
         from account a, generate_series(1, $1::int) n returning id, account_id, sequence)
     insert into webhook_delivery (id, account_id, endpoint_id, position, event_id, event_type, state, next_attempt_at, created_at)
     select gen_random_uuid(), account_id, account_id, sequence, id, 'subscription.changed', 'pending', now(), now() from told`,
    [each, DATA],
  );
  await client.query('update account set event_sequence = event_sequence + $1', [each]);
  await client.query('analyze webhook_delivery, event');
  await client.query('checkpoint');
  const startedAt = performance.now();
  await client.query('update webhook_endpoint set next_due_at = now()');
  for (;;) {
    const { rows } = await client.query<{ due: number }>(
      'select count(*)::int as due from webhook_endpoint where next_due_at is not null',
    );
    if (rows[0]?.due === 0) break;
    if (performance.now() - startedAt > DEADLINE_MS)
      throw new Error(`${rows[0]?.due} endpoints did not get everything`);
    await sleep(20);
  }
  const seconds = (performance.now() - startedAt) / 1_000;
  const { rows } = await client.query("select 1 from webhook_delivery where state <> 'delivered' limit 1");
  if (rows.length > 0) throw new Error('a delivery did not arrive');
  return (ENDPOINTS * each) / seconds;
}

/** The floor: the same body by `fetch`, at the same concurrency, without signing or writing anything down. */
async function fetchAll({ url }: Child): Promise<number> {
  const body = JSON.stringify({ id: `evt_${'0'.repeat(36)}`, type: 'subscription.changed', data: DATA });
  const count = ENDPOINTS * PER_ROUND_EACH;
  const startedAt = performance.now();
  await inParallel(count, ENDPOINTS, async () => {
    const answer = await fetch(`${url}/in`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body,
    });
    await answer.arrayBuffer();
  });
  return (count * 1_000) / (performance.now() - startedAt);
}

function report(rounds: readonly Round[], samples: readonly Sample[], peakRssBytes: number): Report {
  const deliveredPerSecond = median(rounds.map((round) => round.deliveredPerSecond));
  const fetchPerSecond = median(rounds.map((round) => round.fetchPerSecond));
  const ratio = median(rounds.map((round) => round.deliveredPerSecond / round.fetchPerSecond));
  const bytesPerDelivery = slope(
    samples.map(({ deliveries, heapBytes }) => ({ x: deliveries, y: heapBytes })),
  );
  return {
    tables: [
      {
        title: `Webhooks to ${ENDPOINTS} fast endpoints of this machine`,
        columns: ['', 'events/s', 'of plain fetch', 'peak memory'],
        rows: [
          ['plain fetch', figure(fetchPerSecond), '1.00', ''],
          ['delivered', figure(deliveredPerSecond), figure(ratio), mebibytes(peakRssBytes)],
        ],
      },
      {
        title: 'Live heap of the worker after a full collection',
        columns: ['deliveries after warm-up', 'heap'],
        rows: samples.map(({ deliveries, heapBytes }) => [
          deliveries.toLocaleString('en'),
          mebibytes(heapBytes),
        ]),
      },
    ],
    notes: [
      'Delivered: read, signed, sent in order for each endpoint, and the outcome committed to the disk. One process.',
      `Growth along the line that fits best: ${figure(bytesPerDelivery)} bytes a delivery.`,
    ],
    figures: {
      endpoints: ENDPOINTS,
      deliveredPerSecond,
      fetchPerSecond,
      ratio,
      samples,
      bytesPerDelivery,
      peakRssBytes,
    },
    charts: {
      'fan-out.svg': {
        title: 'Webhooks to customers',
        unit: `events a second to ${ENDPOINTS} endpoints, one process`,
        bars: [
          { label: 'plain fetch', value: fetchPerSecond, isFloor: true },
          { label: 'delivered', value: deliveredPerSecond, remark: `${figure(ratio)} of the floor` },
        ],
      },
    },
  };
}
