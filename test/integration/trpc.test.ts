import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { startHttp, type TestHttp } from '../support/http.ts';

let http: TestHttp;
let key: string;
/** How often the portal was opened at Stripe. */
const opened = () => http.stripe.all('billing_portal.session').length;

beforeAll(async () => {
  const check = () => {
    throw new Error("insert into account values ('secret_value')");
  };
  http = await startHttp({
    deps: { redirects: { check, allows: () => true } },
    limits: {
      global: { free: { capacity: 100_000, refillPerSecond: 1 } },
      minting: { capacity: 100_000, refillPerSecond: 1 },
      failures: { capacity: 100_000, refillPerSecond: 1 },
    },
  });
  ({ key } = await http.openAccount());
});
afterAll(() => http.close());

const PORTAL = '/trpc/billing.startPortalSession';
const batchOf = (count: number, name = 'billing.startPortalSession') =>
  `/trpc/${Array.from({ length: count }, () => name).join(',')}?batch=1`;

it('answers a query by GET and a mutation by POST', async () => {
  const state = await http.call('/trpc/billing.getState', { key });
  expect(state.status).toBe(200);
  expect(await state.json()).toEqual({
    result: {
      data: {
        subscription: null,
        trial_pack: { active: false, credit_cents_remaining: 0, expires_at: null, redeemed: false },
      },
    },
  });
  const portal = await http.call(PORTAL, { key, json: {} });
  const portal_url = expect.stringMatching(/^https:\/\/billing\.stripe\.test\//);
  expect(await portal.json()).toEqual({ result: { data: { portal_url } } });
  expect((await http.call(PORTAL, { key, method: 'POST' })).status).toBe(200);
});

it('refuses a mutation by GET, running nothing', async () => {
  const before = opened();
  const response = await http.call(PORTAL, { key });
  expect(response.status).toBe(405);
  expect(response.headers.get('allow')).toBe('POST');
  expect(opened()).toBe(before);
});

it.each(['PUT', 'PATCH', 'DELETE', 'HEAD'])('refuses %s', async (method) => {
  const response = await http.call(PORTAL, { key, method });
  expect(response.status).toBe(405);
  expect(response.headers.get('allow')).toBe('GET, OPTIONS, POST');
});

it('answers ten calls in a batch, and refuses eleven, running none', async () => {
  const json = Object.fromEntries(Array.from({ length: 11 }, (_, index) => [index, {}]));
  const ten = await http.call(batchOf(10), { key, json });
  expect(ten.status).toBe(200);
  expect(await ten.json()).toHaveLength(10);
  const before = opened();
  expect(before).toBeGreaterThanOrEqual(10);
  const eleven = await http.call(batchOf(11), { key, json });
  expect(eleven.status).toBe(400);
  expect(await eleven.json()).toMatchObject({
    error: { data: { problem: { code: 'bad_request', instance: eleven.headers.get('x-request-id') } } },
  });
  expect(opened()).toBe(before);
});

it('finds the commas of a batch however they are written', async () => {
  const response = await http.call(batchOf(11).replaceAll(',', '%2C'), { key, json: {} });
  expect(response.status).toBe(400);
});

it('refuses a batch of queries and mutations together', async () => {
  const response = await http.call('/trpc/billing.getState,billing.startPortalSession?batch=1', {
    key,
    json: {},
  });
  expect(response.status).toBe(400);
});

it.each([
  'multipart/form-data; boundary=x',
  'application/octet-stream',
  'text/plain',
  'application/x-www-form-urlencoded',
  'application/json; charset=utf-16',
])('refuses a body of type %s before tRPC sees it', async (type) => {
  const before = opened();
  const response = await http.call(PORTAL, {
    key,
    method: 'POST',
    body: '{}',
    headers: { 'content-type': type },
  });
  expect(response.status).toBe(415);
  expect(opened()).toBe(before);
});

describe('what goes wrong', () => {
  it('carries the whole problem beside the matching tRPC code', async () => {
    const response = await http.call('/trpc/billing.getState');
    expect(response.status).toBe(401);
    expect(response.headers.get('www-authenticate')).toBe('Bearer realm="driftstack"');
    expect(await response.json()).toEqual({
      error: {
        message: expect.any(String),
        code: -32001,
        data: {
          code: 'UNAUTHORIZED',
          httpStatus: 401,
          path: 'billing.getState',
          problem: {
            type: 'https://errors.driftstack.dev/unauthorized',
            title: 'Unauthorized',
            status: 401,
            detail: expect.any(String),
            instance: response.headers.get('x-request-id'),
            code: 'unauthorized',
          },
        },
      },
    });
  });

  it('never shows the message of an error that is not ours', async () => {
    const response = await http.call(PORTAL, { key, json: { return_url: 'https://your.app/' } });
    expect(response.status).toBe(500);
    const text = await response.text();
    expect(text).not.toContain('secret_value');
    expect(text).not.toContain('"stack"');
    expect(text).toContain(response.headers.get('x-request-id'));
  });

  it.each([
    ['no JSON', '{'],
    ['a name twice', '{"return_url":"a","return_url":"b"}'],
    ['a NUL', '{"return_url":"\\u0000"}'],
    ['half a surrogate pair', '{"return_url":"\\udc00"}'],
    ['too many levels', `${'['.repeat(33)}${']'.repeat(33)}`],
  ])('refuses a body with %s', async (_what, body) => {
    const response = await http.call(PORTAL, {
      key,
      method: 'POST',
      body,
      headers: { 'content-type': 'application/json' },
    });
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ error: { data: { problem: { code: 'bad_request' } } } });
  });

  it('names the field at fault', async () => {
    const response = await http.call(PORTAL, { key, json: { extra: 1 } });
    expect(await response.json()).toMatchObject({
      error: { data: { problem: { code: 'validation_failed', errors: [{ field: 'extra' }] } } },
    });
  });

  it.each(['nothing', 'billing', 'billing.getState.x', 'constructor', '__proto__', 'billing.__proto__'])(
    'finds no procedure %s',
    async (name) => {
      const response = await http.call(`/trpc/${name}`, { key });
      expect(response.status).toBe(404);
      expect(await response.json()).toMatchObject({ error: { data: { problem: { code: 'not_found' } } } });
    },
  );

  it.each(['%zz', '%ff'])('refuses the path %s', async (name) => {
    expect((await http.call(`/trpc/${name}`, { key })).status).toBe(400);
  });

  it('refuses an input parameter that is no JSON', async () => {
    const response = await http.call('/trpc/billing.getState?input=%7B', { key });
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ error: { data: { problem: { code: 'bad_request' } } } });
  });
});

it('looks the key up once for a batch, and counts each call', async () => {
  const { key: other } = await http.openAccount();
  const statements = vi.spyOn(http.db.pool, 'query');
  try {
    const response = await http.call(batchOf(3, 'billing.getState'), { key: other });
    expect(response.headers.get('ratelimit-remaining')).toBe(String(100_000 - 3));
    expect(statements).toHaveBeenCalledTimes(1);
  } finally {
    statements.mockRestore();
  }
});

it('marks a replayed answer', async () => {
  const again = { key, json: {}, headers: { 'idempotency-key': 'again' } };
  expect((await http.call(PORTAL, again)).headers.get('idempotent-replayed')).toBeNull();
  const response = await http.call(PORTAL, again);
  expect(response.headers.get('idempotent-replayed')).toBe('1');
});
