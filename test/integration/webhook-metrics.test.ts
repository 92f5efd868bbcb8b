import { afterAll, beforeAll, expect, it } from 'vitest';
import { createEventStore } from '../../server/stripe/inbox/event-store.ts';
import { takeIn } from '../../server/stripe/inbox/intake.ts';
import { recordEvent } from '../../server/webhooks/record-event.ts';
import { Driftstack } from '../../shared/client.ts';
import { startHttp, type TestHttp } from '../support/http.ts';
import { type DatabaseProxy, startProxy } from '../support/proxy.ts';
import { eventBody, sign, WEBHOOK_SECRET } from '../support/stripe.ts';
import { newsOf } from '../support/webhooks.ts';

let http: TestHttp;
let proxy: DatabaseProxy;

beforeAll(async () => {
  http = await startHttp({
    through: async (url) => {
      proxy = await startProxy(url);
      return proxy.url;
    },
  });
});
afterAll(async () => {
  await http?.close();
  await proxy?.close();
});

/** The series of webhooks, by name and labels. */
async function figures(): Promise<Record<string, number>> {
  const text = await (await http.call('/metrics')).text();
  const series = [...text.matchAll(/^(driftstack_webhook_\S+) (\S+)$/gm)];
  return Object.fromEntries(series.map(([, name = '', value]) => [name, Number(value)]));
}

const OLDEST = 'driftstack_webhook_delivery_oldest_seconds';
const query = (statement: string, values: unknown[] = []) => http.db.pool.query(statement, values);

it('say how long deliveries wait, how many were given up and how many endpoints are paused', async () => {
  const nothing = {
    [`${OLDEST}{endpoints="working"}`]: 0,
    [`${OLDEST}{endpoints="slow"}`]: 0,
    [`${OLDEST}{endpoints="failing"}`]: 0,
    driftstack_webhook_deliveries_dead: 0,
    driftstack_webhook_endpoints_paused: 0,
  };
  expect(await figures()).toEqual(nothing);

  const { accountId, key } = await http.openAccount();
  const client = new Driftstack({ apiKey: key, baseUrl: http.url });
  const add = async () => {
    const url = 'https://hooks.customer.test/in';
    return (await client.webhooks.create({ url, events: ['subscription.changed'] })).id.slice(4);
  };
  const [working, slow, failing, held, paused, gone] = [
    await add(),
    await add(),
    await add(),
    await add(),
    await add(),
    await add(),
  ];
  await http.db.transaction((tx) =>
    recordEvent(tx, { accountId, news: newsOf('subscription.changed'), dedupeKey: 'a', now: new Date() }),
  );
  const wait = (id: string, seconds: number) =>
    query("update webhook_endpoint set next_due_at = now() - $2 * interval '1 second' where id = $1", [
      id,
      seconds,
    ]);
  await wait(working, 70);
  await wait(slow, 300);
  await query('update webhook_endpoint set pace_ms = 9000 where id = $1', [slow]);
  await wait(failing, 500);
  await query('update webhook_endpoint set consecutive_failures = 3 where id = $1', [failing]);
  await wait(held, 9_000);
  await query("update webhook_endpoint set held_until = now() + interval '1 hour' where id = $1", [held]);
  await wait(paused, 9_000);
  await wait(gone, 9_000);
  await client.webhooks.update(`whk_${paused}`, { active: false });
  await client.webhooks.delete(`whk_${gone}`);
  await query("update webhook_delivery set state = 'dlq' where endpoint_id = any($1)", [[failing, held]]);

  const after = await figures();
  expect(Math.floor(after[`${OLDEST}{endpoints="working"}`] ?? 0)).toBeOneOf([70, 71, 72, 73]);
  expect(Math.floor(after[`${OLDEST}{endpoints="slow"}`] ?? 0)).toBeOneOf([300, 301, 302, 303]);
  expect(Math.floor(after[`${OLDEST}{endpoints="failing"}`] ?? 0)).toBeOneOf([500, 501, 502, 503]);
  expect(after).toMatchObject({
    driftstack_webhook_deliveries_dead: 2,
    driftstack_webhook_endpoints_paused: 1,
  });
  expect(Object.keys(after)).toEqual(Object.keys(nothing));

  await query("update webhook_endpoint set next_due_at = now() + interval '1 hour'");
  expect(await figures()).toMatchObject({
    [`${OLDEST}{endpoints="working"}`]: 0,
    [`${OLDEST}{endpoints="failing"}`]: 0,
  });
});

it('are unknown while the database is away, and leave the other figures as they are', async () => {
  proxy.cut();
  try {
    const answer = await http.call('/metrics');
    expect(answer.status).toBe(200);
    const text = await answer.text();
    expect(text).toMatch(/^driftstack_webhook_deliveries_dead Nan$/m);
    expect(text).toMatch(/^driftstack_webhook_delivery_oldest_seconds\{endpoints="working"\} Nan$/m);
    expect(text).toMatch(/^driftstack_database_connections\{state="open"\} \d+$/m);
  } finally {
    proxy.restore();
  }
});

it('go by the clock of the local Stripe where that was moved', async () => {
  const aheadMs = 30 * 86_400_000;
  const now = () => new Date(Date.now() + aheadMs);
  const moved = await startHttp({ clock: { now, aheadMs: () => aheadMs } });
  try {
    const { accountId, key } = await moved.openAccount();
    const client = new Driftstack({ apiKey: key, baseUrl: moved.url });
    const url = 'https://hooks.customer.test/in';
    await client.webhooks.create({ url, events: ['subscription.changed'] });
    const before = new Date(now().getTime() - 70_000);
    await moved.db.transaction((tx) =>
      recordEvent(tx, { accountId, news: newsOf('subscription.changed'), dedupeKey: 'a', now: before }),
    );
    const { body } = eventBody('invoice.paid', { id: 'in_1', object: 'invoice', customer: 'cus_1' });
    await takeIn(
      {
        events: createEventStore(moved.db),
        clock: { now: () => before, aheadMs: () => before.getTime() - Date.now() },
        secrets: [WEBHOOK_SECRET],
        livemode: false,
      },
      { rawBody: Buffer.from(body), signature: sign(body, new Date()) },
    );
    const text = await (await moved.call('/metrics')).text();
    const seconds = (name: string) =>
      Number(
        text
          .split('\n')
          .find((line) => line.startsWith(`${name} `))
          ?.split(' ')[1],
      );
    expect(Math.floor(seconds(`${OLDEST}{endpoints="working"}`))).toBeOneOf([70, 71, 72, 73]);
    expect(Math.floor(seconds('driftstack_stripe_event_oldest_seconds'))).toBeOneOf([70, 71, 72, 73]);
  } finally {
    await moved.close();
  }
});
