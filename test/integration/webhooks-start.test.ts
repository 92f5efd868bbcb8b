import { mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Webhook } from 'standardwebhooks';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createApp } from '../../server/app.ts';
import { createAccount } from '../../server/billing/accounts.ts';
import { issueKey } from '../../server/billing/keys.ts';
import { parseAllowlist } from '../../server/billing/redirects.ts';
import { readConfig } from '../../server/config.ts';
import { connectDatabase } from '../../server/database/connection.ts';
import { createLog } from '../../server/http/log.ts';
import { prepare } from '../../server/prepare.ts';
import { start } from '../../server/start.ts';
import { connectStripe } from '../../server/stripe/api/gateway.ts';
import { Driftstack } from '../../shared/client.ts';
import { verifyWebhookSignature } from '../../shared/webhook-signature.ts';
import { createTestDatabase } from '../support/database.ts';
import { type Service, startService, untilTrue } from '../support/service.ts';
import { type Receiver, startReceiver } from '../support/webhooks.ts';

let dataDir: string;
let service: Service;
let receiver: Receiver;

beforeAll(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'driftstack-webhooks-'));
  service = await startService(dataDir);
  receiver = await startReceiver();
}, 90_000);
afterAll(async () => {
  await service?.stop();
  await receiver?.close();
  await rm(dataDir, { recursive: true, force: true });
});

it('delivers to this machine beside the local Stripe, verified in both ways, under a key of its own', async () => {
  const client = new Driftstack({ apiKey: service.apiKey, baseUrl: service.apiUrl });
  const { id, secret } = await client.webhooks.create({
    url: receiver.url,
    events: ['subscription.changed'],
  });
  await client.webhooks.test(id);
  await untilTrue(() => receiver.received.length === 1);
  const { body, headers } = receiver.received[0] ?? { body: '', headers: {} as Record<string, string> };
  const text = (name: string) => String(headers[name]);
  expect(await verifyWebhookSignature({ body, header: text('x-driftstack-signature'), secret })).toBe(true);
  expect(new Webhook(secret).verify(body, headers as Record<string, string>)).toMatchObject({
    type: 'test.ping',
  });
  await untilTrue(async () => (await client.webhooks.listDeliveries(id)).data[0]?.status === 'delivered');
  const figures = await (await fetch(`${service.apiUrl}/metrics`)).text();
  expect(figures).toContain('driftstack_webhook_deliveries_total{outcome="delivered"} 1');

  expect((await stat(join(dataDir, 'webhook-secret-key'))).mode & 0o777).toBe(0o600);
  expect(service.output()).not.toContain(secret);
});

it('goes on signing with the secrets it gave out when it is started again, also behind another key', async () => {
  const before = new Driftstack({ apiKey: service.apiKey, baseUrl: service.apiUrl });
  const { id, secret } = await before.webhooks.create({ url: receiver.url, events: ['trial_pack.expired'] });
  const ownKey = await readFile(join(dataDir, 'webhook-secret-key'), 'utf8');
  const newKey = Buffer.alloc(32, 1).toString('base64');
  for (const env of [{}, { WEBHOOK_SECRET_KEY: `${newKey},${ownKey}` }]) {
    expect(await service.stop()).toBe(0);
    service = await startService(dataDir, env);
    const after = new Driftstack({ apiKey: service.apiKey, baseUrl: service.apiUrl });
    const arrived = receiver.received.length;
    await after.webhooks.test(id);
    await untilTrue(() => receiver.received.length > arrived);
    const got = receiver.received.at(-1);
    const header = got?.headers['x-driftstack-signature'];
    expect(await verifyWebhookSignature({ body: got?.body ?? '', header, secret })).toBe(true);
  }
}, 60_000);

it('sends nothing to this machine beside the real Stripe, with a test key either', async () => {
  const database = await createTestDatabase();
  const config = readConfig({
    DATABASE_URL: database.url,
    STRIPE_SECRET_KEY: 'sk_test_not_used',
    STRIPE_API_BASE: 'http://127.0.0.1:9',
    WEBHOOK_SECRET_KEY: Buffer.alloc(32, 1).toString('base64'),
    ROLES: 'api',
    PORT: '0',
  });
  const running = await start(config, await prepare(config), createLog({ level: 'silent' }), () => undefined);
  const db = await connectDatabase({ url: database.url, poolMax: 2, applicationName: 'test-start' });
  try {
    const now = new Date();
    const { key } = await db.transaction(async (tx) => {
      const { id: accountId } = await createAccount(tx, { email: 'a@b.test', now });
      return await issueKey(tx, { accountId, scopes: ['account_owner'], name: 'test', now });
    });
    const client = new Driftstack({ apiKey: key, baseUrl: running.url });
    for (const url of [receiver.url, receiver.url.replace('http', 'https')])
      await expect(client.webhooks.create({ url, events: ['trial_pack.expired'] })).rejects.toMatchObject({
        status: 400,
        code: 'webhook_url_not_allowed',
      });
  } finally {
    await running.close();
    await db.close();
    await database.drop();
  }
});

it('does not start with webhooks to this machine beside a live key', async () => {
  const database = await createTestDatabase();
  const db = await connectDatabase({ url: database.url, poolMax: 2, applicationName: 'test-start' });
  try {
    const starting = createApp({
      db,
      log: createLog({ level: 'silent' }),
      gateway: connectStripe({ secretKey: 'sk_live_not_used', apiBase: 'http://127.0.0.1:9' }),
      clock: { now: () => new Date() },
      roles: new Set(['api']),
      livemode: true,
      webhookSecrets: () => [],
      redirects: parseAllowlist([]),
      defaults: { checkoutSuccessUrl: null, checkoutCancelUrl: null, portalReturnUrl: null },
      linkOrigins: [],
      email: null,
      emailFrom: 'billing@example.test',
      internalApiToken: null,
      console: false,
      customerWebhooks: { secretKey: Buffer.alloc(32), ports: [], loopback: true },
    });
    await expect(starting).rejects.toThrow('not for live keys');
  } finally {
    await db.close();
    await database.drop();
  }
});
