import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { buildOpenApi } from '../../server/api/openapi.ts';
import { forgetOldKeys } from '../../server/billing/idempotency.ts';
import { type Commit, once } from '../../server/billing/once.ts';
import { IdempotencyKey } from '../../server/database/entities/account.ts';
import { WebhookDelivery, WebhookEndpoint } from '../../server/database/entities/webhooks.ts';
import { uuidv7 } from '../../server/database/uuid.ts';
import { parseId } from '../../shared/ids.ts';
import { MAX_ENDPOINTS } from '../../shared/webhooks.ts';
import { startHttp, type TestHttp, WEBHOOK_KEY } from '../support/http.ts';
import type { ScriptedStripe } from '../support/scripted-stripe.ts';
import { reached } from '../support/states.ts';

let http: TestHttp;
let stripe: ScriptedStripe;
let time = new Date();
let resolve = async () => ['93.184.215.14'];
beforeAll(async () => {
  const clock = { now: () => time };
  http = await startHttp({ clock, resolve: () => resolve() });
  ({ stripe } = http);
});
beforeEach(() => {
  time = new Date();
  resolve = async () => ['93.184.215.14'];
});
afterAll(async () => {
  await http.close();
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

const locks = new Set<() => Promise<void>>();
afterEach(async () => {
  for (const release of locks) await release();
});

/** Holds the account's row against all that refers to it, so that a call on it must wait; `awaited` comes when one does. */
async function holdAccount({ accountId }: Caller) {
  const lock = await http.db.pool.connect();
  await lock.query('begin');
  const { rows } = await lock.query('select pg_backend_pid() as pid from account where id = $1 for update', [
    accountId,
  ]);
  const waiting = 'select from pg_stat_activity where $1 = any(pg_blocking_pids(pid))';
  const release = async () => {
    if (!locks.delete(release)) return;
    await lock.query('commit');
    lock.release();
  };
  locks.add(release);
  return {
    query: (text: string, values: unknown[]) => lock.query(text, values),
    awaited: () =>
      expect
        .poll(async () => (await http.db.pool.query(waiting, [rows[0].pid])).rowCount, { timeout: 10_000 })
        .toBeGreaterThan(0),
    release,
  };
}

/** Lets the work of a call be refused after it began, by Stripe or by the state of the account; until it is undone. */
async function refuseWork({ accountId, endpoint }: Caller, { trpc }: Post) {
  if (trpc.startsWith('billing.')) {
    const error = { type: 'invalid_request_error', message: 'No.' };
    stripe.interfere(({ method }) =>
      method === 'POST' ? { kind: 'answer', status: 400, body: JSON.stringify({ error }) } : undefined,
    );
    return async () => stripe.interfere(() => undefined);
  }
  const all = { accountId, id: parseId('whk', endpoint) ?? '' };
  if (trpc === 'webhooks.create') {
    const made = await em().findOneOrFail(WebhookEndpoint, all);
    const ids = Array.from({ length: MAX_ENDPOINTS - 1 }, () => uuidv7(time));
    await em().insertMany(
      WebhookEndpoint,
      ids.map((id) => ({ ...made, id })),
    );
    return async () => void (await em().nativeDelete(WebhookEndpoint, { id: { $in: ids } }));
  }
  await em().nativeUpdate(WebhookEndpoint, all, { deletedAt: time });
  return async () => void (await em().nativeUpdate(WebhookEndpoint, all, { deletedAt: null }));
}

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
    reached('a key comes again, and its answer is kept');
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
    reached('a key comes again with another request');
    expect(await effects(who)).toEqual(held);
  });

  it('is the account’s own, also while the other one’s call runs', async () => {
    const [other, who] = [await caller(), await caller()];
    await post(other, one, 'shared');
    const lock = await holdAccount(other);
    const running = post(other, one, 'at-once');
    await lock.awaited();
    for (const key of ['shared', 'at-once'])
      expect(await read(await post(who, one, key))).toMatchObject({
        status: expect.toBeOneOf([200, 201, 202]),
        replayed: null,
      });
    await lock.release();
    expect((await running).ok).toBe(true);
  });

  it('is in progress while it runs', async () => {
    const who = await caller();
    const lock = await holdAccount(who);
    const both = [post(who, one, 'busy'), post(who, one, 'busy')];
    const second = await read(await Promise.race(both));
    // What asks for something else is told so already now.
    const other = one.other && (await read(await post(who, one, 'busy', one.other)));
    await lock.release();
    expect((await Promise.all(both)).filter(({ ok }) => ok)).toHaveLength(1);
    expect(second).toMatchObject({
      status: 409,
      body: { code: 'idempotency_key_in_use', idempotency_status: 'in_progress' },
    });
    reached('a key comes again while its call runs');
    if (other) expect(other).toMatchObject({ status: 409, body: { code: 'idempotency_key_reused' } });
  });

  it('is in progress for another process, until that one must be dead', async () => {
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
    time = new Date(until.getTime() + 1_000);
    const taken = await read(await post(who, one, 'taken'));
    expect(taken).toMatchObject({ status: expect.toBeOneOf([200, 201, 202]), replayed: null });
    reached('a key is taken from a process that must be dead');
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

  it('is given back by what refuses the work itself', async () => {
    const who = await caller();
    const allow = await refuseWork(who, one);
    const refused = await read(await post(who, one, 'later'));
    expect(refused.status).toBeOneOf([404, 409, 422, 503]);
    expect(await em().count(IdempotencyKey, { accountId: who.accountId })).toBe(0);
    await allow();
    expect(await read(await post(who, one, 'later'))).toMatchObject({
      status: expect.toBeOneOf([200, 201, 202]),
      replayed: null,
    });
    reached('a key comes again after its call was refused');
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

// The portal claims its key at once: its answer is never kept, so it looks for none before.
const LOOKED_FOR = Object.entries(POSTS).filter(([operation]) => operation !== 'startPortalSession');
it.each(LOOKED_FOR)('%s is answered as the other process did that was faster', async (_operation, one) => {
  const who = await caller();
  const first = await read(await post(who, one, 'raced'));
  const { accountId } = who;
  const { rows } = await http.db.pool.query('delete from idempotency_key where account_id = $1 returning *', [
    accountId,
  ]);
  const held = await effects(who);
  // It looks for an answer before there is one, and has its turn after the other one has ended.
  const lock = await holdAccount(who);
  const second = post(who, one, 'raced');
  await lock.awaited();
  await lock.query(
    'insert into idempotency_key select * from jsonb_populate_record(null::idempotency_key, $1)',
    [JSON.stringify({ ...rows[0], request_hash: `\\x${rows[0].request_hash.toString('hex')}` })],
  );
  await lock.release();
  expect(await read(await second)).toEqual({ ...first, replayed: '1' });
  expect(await effects(who)).toEqual(held);
  reached('two processes have one key, and the slower answers as the faster did');
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
      const kept = await em().findOneOrFail(IdempotencyKey, { accountId: who.accountId });
      const secret = body.secret.slice('whsec_'.length);
      expect(Object.keys(kept.response ?? {})).toEqual(['sealed']);
      const sealed = String(kept.response?.['sealed']);
      expect(JSON.stringify(kept)).not.toContain(secret);
      expect(Buffer.from(sealed, 'base64').toString('latin1')).not.toContain(secret);
    },
  );

  it('cannot be read as that of another call', async () => {
    const [who, other] = [await caller(), await caller()];
    const create = POSTS['createWebhookEndpoint'];
    if (!create) throw new Error('there is no such call');
    for (const [from, key] of [
      [other, 'mine'],
      [who, 'before'],
    ] as const) {
      await post(from, create, key);
      const { response } = await em().findOneOrFail(IdempotencyKey, { accountId: from.accountId, key });
      await post(who, create, `mine, not ${key}`.replaceAll(' ', '-'));
      const moved = { accountId: who.accountId, key: `mine,-not-${key}` };
      await em().nativeUpdate(IdempotencyKey, moved, { response });
      expect(await read(await post(who, create, moved.key))).toMatchObject({
        status: 409,
        body: { code: 'idempotency_answer_lost' },
      });
    }
  });

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
    reached('the answer of a key cannot be read any more');
  });
});

it('stands for one call, also where another takes the same input', async () => {
  const who = await caller();
  const { testWebhookEndpoint: ping, rotateWebhookSecret: rotate } = POSTS;
  if (!ping || !rotate) throw new Error('there is no such call');
  await post(who, ping, 'one');
  const held = await effects(who);
  expect(await read(await post(who, rotate, 'one'))).toMatchObject({
    status: 409,
    body: { code: 'idempotency_key_reused' },
  });
  expect(await effects(who)).toEqual(held);
});

it('gives the first answer before anything is looked up anew', async () => {
  const who = await caller();
  const create = POSTS['createWebhookEndpoint'];
  if (!create) throw new Error('there is no such call');
  const first = await read(await post(who, create, 'known'));
  resolve = async () => {
    throw new Error('there is no such host any more');
  };
  expect(await read(await post(who, create, 'known'))).toEqual({ ...first, replayed: '1' });
  expect((await post(who, create, 'new')).status).toBe(400);
});

it('refuses work that answers anything but what its transaction came to', async () => {
  const { accountId } = await caller();
  const call = { accountId, keyId: uuidv7(time), requestId: 'req_1', idempotencyKey: 'strange' };
  const parts = { db: http.db, clock: { now: () => time }, secretKey: WEBHOOK_KEY };
  const work = async (commit: Commit) => {
    await commit(accountId, async () => ({ id: 'kept' }));
    return { id: 'answered' };
  };
  const made = once(parts, call, { route: 'strange', input: {} }, work, () => ({ id: 'read' }));
  await expect(made).rejects.toThrow('strange');
});

const OWN_WORK = Object.entries(POSTS).filter(([, { trpc }]) => trpc.startsWith('webhooks.'));

it.each(OWN_WORK)('work and answer of %s are kept together or not at all', async (_operation, create) => {
  const who = await caller();
  const held = await effects(who);
  await http.db.pool.query(`
    create function die() returns trigger language plpgsql as $$ begin raise exception 'power cut'; end $$;
    create trigger die before update on idempotency_key for each row execute function die()`);
  try {
    expect((await post(who, create, 'cut')).status).toBe(500);
    expect(await effects(who)).toEqual(held);
    expect(await em().count(IdempotencyKey, { accountId: who.accountId })).toBe(0);
  } finally {
    await http.db.pool.query('drop trigger die on idempotency_key; drop function die()');
  }
  const done = await read(await post(who, create, 'cut'));
  expect(done).toMatchObject({ status: expect.toBeOneOf([200, 201, 202]), replayed: null });
  expect(await effects(who)).not.toEqual(held);
  reached('the answer of a key is lost together with its work');
});

it('a key is forgotten after a day, and its row deleted', async () => {
  const who = await caller();
  const create = POSTS['createWebhookEndpoint'];
  if (!create) throw new Error('there is no such call');
  const first = await read(await post(who, create, 'daily'));
  time = new Date(time.getTime() + 23 * 3_600_000);
  await forgetOldKeys({ db: http.db, clock: { now: () => time } });
  expect(await read(await post(who, create, 'daily'))).toEqual({ ...first, replayed: '1' });
  time = new Date(time.getTime() + 2 * 3_600_000);
  expect(await read(await post(who, create, 'daily'))).toMatchObject({ status: 201, replayed: null });
  reached('a key comes again after a day');
  // However many there are.
  await http.db.pool.query(
    `insert into idempotency_key (account_id, key, route, request_hash, state, locked_until, created_at)
     select $1, 'old-' || n, 'x', '', 'running', $2, $2 from generate_series(1, 2500) n`,
    [who.accountId, time],
  );
  time = new Date(time.getTime() + 25 * 3_600_000);
  await forgetOldKeys({ db: http.db, clock: { now: () => time } });
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
