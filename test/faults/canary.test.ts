import { randomBytes } from 'node:crypto';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Client } from 'pg';
import { afterAll, beforeAll, expect, inject, it } from 'vitest';
import { failNextMails, listMails } from '../../server/local-stripe/mails.ts';
import { queueEmail } from '../../server/notify/outbox.ts';
import { type DatabaseProxy, startProxy } from '../support/proxy.ts';
import { runMain, untilTrue } from '../support/service.ts';
import { sign } from '../support/stripe.ts';
import { openCallers } from './support/callers.ts';
import { type Deployment, type Instance, openDeployment } from './support/deployment.ts';
import { buy, count } from './support/purchase.ts';

const canary = (name: string) => `${name}canary${randomBytes(16).toString('hex')}`;
const role = canary('role_').slice(0, 40);
const secrets = {
  'API key': '',
  'Stripe key': `sk_test_${canary('')}`,
  'webhook secret': `whsec_${canary('')}`,
  'Resend key': `re_${canary('')}`,
  'internal token': canary('token-'),
  'database password': canary('password'),
};

let deployment: Deployment;
let proxy: DatabaseProxy;
let echo: Server;
let echoUrl: string;
/** Everything that anybody outside could see, by where it was seen. */
const seen: { where: string; text: string }[] = [];

beforeAll(async () => {
  deployment = await openDeployment();
  const owner = new URL(inject('adminUrl')).username;
  await administer(`create role ${role} login password '${secrets['database password']}' in role "${owner}"`);
  proxy = await startProxy(deployment.databaseUrl);
  // A Stripe as it should not be: what it refuses it repeats, the secret included; a Resend that does the same.
  echo = createServer((request, response) => {
    const message = `This is not a key: ${request.headers.authorization}`;
    const refusal =
      request.url === '/emails'
        ? { name: 'invalid_api_key', statusCode: 401, message }
        : { error: { type: 'invalid_request_error', message } };
    response.writeHead(401, { 'content-type': 'application/json' });
    response.end(JSON.stringify(refusal));
  });
  await new Promise<void>((resolve) => echo.listen(0, '127.0.0.1', resolve));
  // Listening on a port, it has the address of one.
  echoUrl = `http://127.0.0.1:${(echo.address() as AddressInfo).port}`;
});
afterAll(async () => {
  await deployment?.close();
  await proxy?.close();
  echo?.closeAllConnections();
  await new Promise((resolve) => echo?.close(resolve));
  await administer(`drop role if exists ${role}`);
});

async function administer(statement: string): Promise<void> {
  const client = new Client({ connectionString: inject('adminUrl') });
  await client.connect();
  await client.query(statement).finally(() => client.end());
}

function databaseUrl(): string {
  const url = new URL(proxy.url);
  url.username = role;
  url.password = secrets['database password'];
  return url.href;
}

const env = (): Record<string, string> => ({
  DATABASE_URL: databaseUrl(),
  STRIPE_SECRET_KEY: secrets['Stripe key'],
  STRIPE_WEBHOOK_SECRETS: secrets['webhook secret'],
  RESEND_API_KEY: secrets['Resend key'],
  INTERNAL_API_TOKEN: secrets['internal token'],
  LOG_LEVEL: 'trace',
});

/** Sends a request and keeps the whole answer. */
async function ask(instance: Instance, path: string, init: RequestInit = {}): Promise<number> {
  const response = await fetch(`${instance.url}${path}`, init);
  const text = `${JSON.stringify([...response.headers])} ${await response.text()}`;
  seen.push({ where: `the answer to ${init.method ?? 'GET'} ${path.slice(0, 40)}`, text });
  return response.status;
}

function post(body: object | string, headers: Record<string, string> = {}): RequestInit {
  const text = typeof body === 'string' ? body : JSON.stringify(body);
  return { method: 'POST', headers: { 'content-type': 'application/json', ...headers }, body: text };
}

function signed(body: string): RequestInit {
  return post(body, { 'stripe-signature': sign(body, new Date(), secrets['webhook secret']) });
}

/** Every door, as it should be used and as it should not. */
async function callAll(instance: Instance, key: string): Promise<number[]> {
  const bearer = { authorization: `Bearer ${key}` };
  const plan = { tier: 'api_builder', billing_period: 'monthly' };
  const internal = { authorization: `Bearer ${secrets['internal token']}` };
  const statuses: number[] = [];
  for (const [path, init] of [
    ['/v1/billing', { headers: bearer }],
    ['/v1/account/audit-log', { headers: bearer }],
    ['/v1/billing/checkout-session', post(plan, { ...bearer, 'idempotency-key': 'canary-1' })],
    ['/v1/billing/trial-pack', post({}, bearer)],
    ['/v1/billing/portal-session', post({}, bearer)],
    ['/trpc/billing.getState', { headers: bearer }],
    ['/trpc/billing.createCheckoutSession', post(plan, bearer)],
    ['/v1/billing/checkout-session', post({ ...plan, [key]: key }, bearer)],
    ['/v1/billing/checkout-session', post({ ...plan, tier: key }, bearer)],
    ['/v1/billing/checkout-session', post({ ...plan, success_url: `https://evil.example/${key}` }, bearer)],
    ['/v1/billing/checkout-session', post(`{"tier": "${key}`, bearer)],
    [`/v1/billing?api_key=${key}`, {}],
    [`/v1/billing?api_key=${key}`, { headers: bearer }],
    [`/v1/${key}`, { headers: bearer }],
    [`/trpc/${key}`, { headers: bearer }],
    ['/v1/billing', { headers: { authorization: `Basic ${key}` } }],
    ['/v1/billing', { headers: { authorization: `Bearer ${key}x` } }],
    ['/internal/trpc/usage.report', post({ nothing: 1 }, internal)],
    ['/internal/trpc/usage.report', post({}, { authorization: `Bearer ${secrets['internal token']}x` })],
    ['/webhooks/stripe', post('{}', { 'stripe-signature': `t=1,v1=${secrets['webhook secret']}` })],
    ['/webhooks/stripe', signed('{"not":"an event"}')],
    ['/metrics', {}],
    ['/readyz', {}],
  ] satisfies [string, RequestInit][]) {
    statuses.push(await ask(instance, path, init));
  }
  return statuses;
}

it('no secret is in a log, an answer, a table or a mail, whatever goes right or wrong', async () => {
  const [key = ''] = await openCallers(deployment.db, 1);
  secrets['API key'] = key;
  const instance = await deployment.start(env());
  const fine = await callAll(instance, key);
  expect(fine.slice(0, 3)).toEqual([200, 200, 200]);

  // Purchases, with a provider that fails in every way it can.
  for (const kind of ['server_error', 'garbage', 'rate_limited'] as const) {
    await buy(deployment, 'subscription');
    failNextMails(deployment.localStripe.world, kind, 1);
    for (const body of deployment.told.splice(0)) await ask(instance, '/webhooks/stripe', signed(body));
    await untilTrue(() => listMails(deployment.localStripe.world).length > 0);
  }
  // A Stripe that fails.
  for (const fault of [
    { kind: 'garbage' },
    { kind: 'server_error' },
    { kind: 'hang_up' },
    { kind: 'rate_limit' },
  ]) {
    await fetch(`${deployment.localStripe.url}/_sandbox/faults`, post({ on: 'api', fault, times: 20 }));
    await callAll(instance, key);
    await fetch(`${deployment.localStripe.url}/_sandbox/faults`, { method: 'DELETE' });
  }
  // No database.
  proxy.cut();
  const cut = await callAll(instance, key);
  expect(cut[0]).toBe(503);
  proxy.restore();
  await untilTrue(async () => (await ask(instance, '/readyz')) === 200);

  // A Stripe and a Resend that do not accept the keys.
  const repeating = await deployment.start({ ...env(), STRIPE_API_BASE: echoUrl, RESEND_BASE_URL: echoUrl });
  await instance.stop();
  const accountId = await buy(deployment, 'trial_pack');
  const plan = { tier: 'api_builder', billingPeriod: 'monthly' } as const;
  const mail = {
    accountId,
    to: 'canary@driftstack.test',
    naturalKey: 'canary',
    template: 'subscription_resumed',
  } as const;
  await deployment.db.transaction((tx) =>
    queueEmail(tx, { ...mail, data: { plan, next: null } }, new Date()),
  );
  for (const body of deployment.told.splice(0)) await ask(repeating, '/webhooks/stripe', signed(body));
  await callAll(repeating, key);
  await untilTrue(
    async () =>
      (await count(deployment, 'from stripe_event where error is not null or attempts > 0')) > 0 ||
      /"level":"(warn|error)"/.test(repeating.output()),
    30_000,
  );
  await untilTrue(
    async () => (await count(deployment, "from email where state = 'pending' and error is not null")) > 0,
    30_000,
  );
  await repeating.stop();

  // Starts that fail.
  const starts = [
    { ...env(), PORT: '0', DATABASE_URL: databaseUrl().replace(/:\d+\//, ':9/') },
    { ...env(), PORT: '0', DATABASE_URL: databaseUrl().replace(role, `${role}x`) },
    { ...env(), PORT: '0', STRIPE_API_BASE: `nonsense ${secrets['Stripe key']}` },
    {
      ...env(),
      PORT: '0',
      STRIPE_SECRET_KEY: `x${secrets['Stripe key']}`,
      EMAIL_FROM: secrets['Resend key'],
    },
  ];
  for (const [index, one] of starts.entries()) {
    const { code, output } = await runMain(one);
    expect(code).toBe(1);
    seen.push({ where: `failed start ${index + 1}`, text: output });
  }

  seen.push(
    { where: 'the log', text: instance.output() },
    { where: 'the second log', text: repeating.output() },
  );
  expect(instance.output().split('\n').length).toBeGreaterThan(20);
  for (const mail of listMails(deployment.localStripe.world))
    seen.push({ where: `a mail`, text: JSON.stringify(mail) });
  seen.push(...(await everyRow()));
  const hits = seen.flatMap(({ where, text }) =>
    Object.entries(secrets).flatMap(([name, secret]) =>
      formsOf(secret).some((form) => text.includes(form)) ? [`${name} in ${where}`] : [],
    ),
  );
  expect([...new Set(hits)]).toEqual([]);
  console.log(
    `${seen.length} texts of ${seen.reduce((sum, { text }) => sum + text.length, 0)} characters searched for ${Object.keys(secrets).length} secrets`,
  );
}, 240_000);

/** As text, and as bytes and encodings that a table or a log may hold. */
function formsOf(secret: string): string[] {
  const bytes = Buffer.from(secret);
  return [secret, bytes.toString('hex'), bytes.toString('base64').slice(0, -4), encodeURIComponent(secret)];
}

async function everyRow(): Promise<typeof seen> {
  const { pool } = deployment.db;
  const tables = await pool.query<{ name: string }>(
    `select format('%I.%I', table_schema, table_name) as name from information_schema.tables
      where table_schema = 'public' and table_type = 'BASE TABLE'`,
  );
  const rows: typeof seen = [];
  for (const { name } of tables.rows) {
    const found = await pool.query<{ row: string }>(`select to_jsonb(t)::text as row from ${name} t`);
    rows.push(...found.rows.map(({ row }) => ({ where: `a row of ${name}`, text: row })));
  }
  return rows;
}
