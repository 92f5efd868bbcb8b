import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { buildOpenApi } from '../../server/api/openapi.ts';
import { startCheckout } from '../../server/billing/checkout.ts';
import type { BillingDeps } from '../../server/billing/deps.ts';
import { forgetOldKeys } from '../../server/billing/idempotency.ts';
import { startPortal } from '../../server/billing/portal.ts';
import { parseAllowlist } from '../../server/billing/redirects.ts';
import { startTrialPack } from '../../server/billing/trial-pack.ts';
import { Account, IdempotencyKey } from '../../server/database/entities/account.ts';
import { WebhookDelivery, WebhookEndpoint } from '../../server/database/entities/webhooks.ts';
import { connectStripe } from '../../server/stripe/gateway.ts';
import { parseId } from '../../shared/ids.ts';
import { startHttp, type TestHttp } from '../support/http.ts';
import { type ScriptedStripe, startScriptedStripe } from '../support/scripted-stripe.ts';
import { quietLog } from '../support/stripe.ts';

let http: TestHttp;
let stripe: ScriptedStripe;
let deps: BillingDeps;
let time = new Date();
beforeAll(async () => {
  stripe = await startScriptedStripe();
  http = await startHttp({
    clock: { now: () => time },
    useCases: {
      startCheckout: (call, input) => startCheckout(deps, call, input),
      startTrialPack: (call, input) => startTrialPack(deps, call, input),
      startPortal: (call, input) => startPortal(deps, call, input),
    },
  });
  const redirects = parseAllowlist(['https://your.app']);
  const address = 'https://your.app/x';
  const defaults = { checkoutSuccessUrl: address, checkoutCancelUrl: address, portalReturnUrl: address };
  const gateway = connectStripe({ secretKey: 'sk_test_scripted', apiBase: stripe.url });
  deps = { db: http.db, clock: { now: () => time }, log: quietLog(), gateway, redirects, defaults };
});
beforeEach(() => {
  time = new Date();
});
afterAll(async () => {
  await http.close();
  await stripe.close();
});

/** As far as a test looks at it. */
type Answer = { id: string; secret: string; result: { data: Answer } };
const bodyOf = async (response: Response) => (await response.json()) as Answer;

type Caller = { key: string; accountId: string; endpoint: string; delivery: string };
type Body = Record<string, unknown>;
type Post = { path: (caller: Caller) => string; body: Body; other: Body | null; trpc: string };

const endpointPath = (action: string) => (caller: Caller) => `/v1/webhooks/${caller.endpoint}/${action}`;
const plan = { tier: 'api_builder', billing_period: 'monthly' };
const hook = { url: 'https://example.com/hook', events: ['subscription.changed'] };
const away = 'https://your.app/other';

/** A call of each POST there is, and one that asks for something else under the same key, if it can. */
const POSTS: Readonly<Record<string, Post>> = {
  startCheckoutSession: {
    path: () => '/v1/billing/checkout-session',
    body: plan,
    other: { ...plan, tier: 'api_scale' },
    trpc: 'billing.startCheckoutSession',
  },
  startTrialPack: {
    path: () => '/v1/billing/trial-pack',
    body: {},
    other: { success_url: away },
    trpc: 'billing.startTrialPack',
  },
  startPortalSession: {
    path: () => '/v1/billing/portal-session',
    body: {},
    other: { return_url: away },
    trpc: 'billing.startPortalSession',
  },
  createWebhookEndpoint: {
    path: () => '/v1/webhooks',
    body: hook,
    other: { ...hook, url: 'https://example.com/other' },
    trpc: 'webhooks.create',
  },
  testWebhookEndpoint: { path: endpointPath('test'), body: {}, other: null, trpc: 'webhooks.test' },
  rotateWebhookSecret: {
    path: endpointPath('rotate-secret'),
    body: {},
    other: null,
    trpc: 'webhooks.rotateSecret',
  },
  replayWebhookEvents: {
    path: endpointPath('replay'),
    body: { after: 0 },
    other: { after: 1 },
    trpc: 'webhooks.replay',
  },
  replayWebhookDelivery: {
    path: ({ delivery }) => `/v1/webhook-deliveries/${delivery}/replay`,
    body: {},
    other: null,
    trpc: 'webhooks.replayDelivery',
  },
};

async function caller(): Promise<Caller> {
  const { key, accountId } = await http.openAccount();
  await em().nativeUpdate(Account, accountId, { stripeCustomerId: stripe.newId('cus') });
  const made = await bodyOf(await http.call('/v1/webhooks', { key, json: hook }));
  const sent = await bodyOf(await http.call(`/v1/webhooks/${made.id}/test`, { key, json: {} }));
  // Delivered, so that replaying it makes another.
  await em().nativeUpdate(WebhookDelivery, { id: parseId('wdl', sent.id) ?? '' }, { state: 'delivered' });
  return { key, accountId, endpoint: made.id, delivery: sent.id };
}
const em = () => http.db.orm.em.fork();
const post = (who: Caller, { path, body }: Post, key: string, json: Body = body) =>
  http.call(path(who), { key: who.key, json, headers: { 'idempotency-key': key } });
const read = async (response: Response) => ({
  status: response.status,
  replayed: response.headers.get('idempotent-replayed'),
  body: await bodyOf(response),
});
/** What every POST adds to: rows of the account, and objects at Stripe. */
const effects = async ({ accountId }: Caller) => {
  const { rows } = await http.db.pool.query(
    `select (select count(*) from webhook_endpoint where account_id = $1) as endpoints,
            (select count(*) from webhook_delivery where account_id = $1) as deliveries,
            (select count(*) from audit_entry where account_id = $1) as audited`,
    [accountId],
  );
  return rows[0];
};

it('knows each POST of the document, and each names the header', () => {
  const { paths = {} } = buildOpenApi();
  const posts = Object.values(paths).flatMap((item) => item?.post ?? []);
  expect(posts.map(({ operationId }) => operationId).sort()).toEqual(Object.keys(POSTS).sort());
  const header = { $ref: '#/components/parameters/IdempotencyKey' };
  for (const { operationId, parameters, responses } of posts) {
    expect(parameters, operationId).toContainEqual(header);
    expect(Object.keys(responses ?? {}), operationId).toContain('409');
  }
  for (const item of Object.values(paths)) {
    for (const operation of [item?.get, item?.patch, item?.delete]) {
      expect(operation?.parameters ?? []).not.toContainEqual(header);
    }
  }
});

describe.each(Object.entries(POSTS))('%s under an Idempotency-Key', (_operation, one) => {
  it('is done once, and answered the same again', async () => {
    const who = await caller();
    const first = await read(await post(who, one, 'same'));
    expect(first).toMatchObject({ status: expect.toBeOneOf([200, 201, 202]), replayed: null });
    const held = await effects(who);
    const again = await read(await post(who, one, 'same'));
    expect(again).toEqual({ ...first, replayed: '1' });
    // The portal's link is asked of Stripe again, and its session is written down once.
    expect(await effects(who)).toEqual(held);
    const other = await read(await post(who, one, 'another'));
    expect(other).toMatchObject({ status: first.status, replayed: null });
  });

  it('is refused for anything else', async () => {
    const who = await caller();
    await post(who, one, 'mine');
    const held = await effects(who);
    const elsewhere =
      one.trpc === 'billing.startTrialPack' ? POSTS['startPortalSession'] : POSTS['startTrialPack'];
    if (!elsewhere) throw new Error('there is no other call');
    const refused = [
      await read(await post(who, elsewhere, 'mine')),
      ...(one.other ? [await read(await post(who, one, 'mine', one.other))] : []),
    ];
    for (const { status, body } of refused) {
      expect(status).toBe(409);
      expect(body).toMatchObject({ code: 'idempotency_key_reused', idempotency_status: 'mismatch' });
    }
    expect(await effects(who)).toEqual(held);
  });

  it('is the account’s own', async () => {
    const [one_, two] = [await caller(), await caller()];
    await post(one_, one, 'shared');
    expect(await read(await post(two, one, 'shared'))).toMatchObject({ replayed: null });
  });

  it('is in progress while it runs', async () => {
    const who = await caller();
    const lock = await http.db.pool.connect();
    await lock.query('begin');
    await lock.query('select 1 from account where id = $1 for update', [who.accountId]);
    const both = [post(who, one, 'busy'), post(who, one, 'busy')];
    const second = await read(await Promise.race(both));
    await lock.query('rollback');
    lock.release();
    expect((await Promise.all(both)).filter(({ ok }) => ok)).toHaveLength(1);
    expect(second).toMatchObject({
      status: 409,
      body: { code: 'idempotency_key_in_use', idempotency_status: 'in_progress' },
    });
  });

  it('is in progress for another process', async () => {
    const who = await caller();
    await post(who, one, 'taken');
    const until = new Date(time.getTime() + 60_000);
    await em().nativeUpdate(
      IdempotencyKey,
      { accountId: who.accountId },
      { state: 'running', status: null, response: null, lockedUntil: until },
    );
    expect(await read(await post(who, one, 'taken'))).toMatchObject({
      status: 409,
      body: { idempotency_status: 'in_progress' },
    });
  });

  it.each(['has space', 'a'.repeat(256)])('refuses the key %j', async (key) => {
    const who = await caller();
    const { status, body } = await read(await post(who, one, key));
    expect(status).toBe(400);
    expect(body).toMatchObject({ errors: [{ field: 'Idempotency-Key' }] });
  });

  it('is given back by a refusal', async () => {
    const who = await caller();
    const refused = await read(await post(who, one, 'again', { ...one.body, nonsense: 1 }));
    expect(refused.status).toBe(400);
    expect(await read(await post(who, one, 'again'))).toMatchObject({ replayed: null });
    expect(await em().count(IdempotencyKey, { accountId: who.accountId, state: 'running' })).toBe(0);
  });

  it('goes over tRPC as well', async () => {
    const who = await caller();
    const id = one.path(who).match(/wh[k]_[^/]+|wdl_[^/]+/)?.[0];
    const json = { ...one.body, ...(id !== undefined && { id }) };
    const call = async () => {
      const init = { key: who.key, json, headers: { 'idempotency-key': 'by-trpc' } };
      return await read(await http.call(`/trpc/${one.trpc}`, init));
    };
    const first = await call();
    expect(first.status).toBe(200);
    expect(await call()).toEqual({ ...first, replayed: '1' });
    // It is the same call over REST.
    const rest = await read(await post(who, one, 'by-trpc'));
    expect(rest).toMatchObject({ replayed: '1', body: first.body.result.data });
  });
});

describe('an answer with a secret', () => {
  it.each(['createWebhookEndpoint', 'rotateWebhookSecret'])(
    'of %s is nowhere in clear',
    async (operation) => {
      const who = await caller();
      const one = POSTS[operation];
      if (!one) throw new Error(operation);
      const { body } = await read(await post(who, one, 'secret'));
      expect(body.secret).toMatch(/^whsec_/);
      const kept = JSON.stringify(await em().find(IdempotencyKey, { accountId: who.accountId }));
      expect(kept).toContain('sealed');
      expect(kept).not.toContain(body.secret.slice('whsec_'.length));
    },
  );

  it('is the first one again, also after the secret was rotated twice', async () => {
    const who = await caller();
    const rotate = POSTS['rotateWebhookSecret'];
    if (!rotate) throw new Error('there is no such call');
    const first = await read(await post(who, rotate, 'first'));
    await post(who, rotate, 'second');
    expect(await read(await post(who, rotate, 'first'))).toEqual({ ...first, replayed: '1' });
  });

  it('that cannot be read any more is a conflict that says so, and nothing is done twice', async () => {
    const who = await caller();
    const create = POSTS['createWebhookEndpoint'];
    if (!create) throw new Error('there is no such call');
    await post(who, create, 'lost');
    const lost = { response: { sealed: Buffer.alloc(64, 1).toString('base64') } };
    await em().nativeUpdate(IdempotencyKey, { accountId: who.accountId, key: 'lost' }, lost);
    expect(await read(await post(who, create, 'lost'))).toMatchObject({
      status: 409,
      body: { code: 'idempotency_answer_lost' },
    });
    expect(await em().count(WebhookEndpoint, { accountId: who.accountId })).toBe(2);
  });
});

it('work and answer are kept together or not at all', async () => {
  const who = await caller();
  const create = POSTS['createWebhookEndpoint'];
  if (!create) throw new Error('there is no such call');
  const held = await effects(who);
  await http.db.pool.query(`
    create function die() returns trigger language plpgsql as $$ begin raise exception 'power cut'; end $$;
    create trigger die before update on idempotency_key for each row execute function die()`);
  expect((await post(who, create, 'cut')).status).toBe(500);
  expect(await effects(who)).toEqual(held);
  expect(await em().count(IdempotencyKey, { accountId: who.accountId })).toBe(0);
  await http.db.pool.query('drop trigger die on idempotency_key; drop function die()');
  expect(await read(await post(who, create, 'cut'))).toMatchObject({ status: 201, replayed: null });
  expect(await em().count(WebhookEndpoint, { accountId: who.accountId })).toBe(2);
});

it('a key is forgotten after a day, and its row deleted', async () => {
  const who = await caller();
  const create = POSTS['createWebhookEndpoint'];
  if (!create) throw new Error('there is no such call');
  const first = await read(await post(who, create, 'daily'));
  time = new Date(time.getTime() + 23 * 3_600_000);
  await forgetOldKeys(deps);
  expect(await read(await post(who, create, 'daily'))).toEqual({ ...first, replayed: '1' });
  time = new Date(time.getTime() + 2 * 3_600_000);
  expect(await read(await post(who, create, 'daily'))).toMatchObject({ status: 201, replayed: null });
  time = new Date(time.getTime() + 25 * 3_600_000);
  await forgetOldKeys(deps);
  expect(await em().count(IdempotencyKey, {})).toBe(0);
});

it('PATCH and DELETE look at no key', async () => {
  const who = await caller();
  const headers = { 'idempotency-key': 'has space', 'content-type': 'application/json' };
  const path = `/v1/webhooks/${who.endpoint}`;
  const patch = { key: who.key, method: 'PATCH', headers, body: '{"description":"x"}' };
  expect((await http.call(path, patch)).status).toBe(200);
  const remove = { key: who.key, method: 'DELETE', headers: { 'idempotency-key': 'has space' } };
  expect((await http.call(path, remove)).status).toBe(204);
});
