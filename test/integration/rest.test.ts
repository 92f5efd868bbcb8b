import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startHttp, type TestHttp } from '../support/http.ts';
import { sendRaw } from '../support/raw-http.ts';

let http: TestHttp;
let caller: Awaited<ReturnType<TestHttp['openAccount']>>;
let key: string;

beforeAll(async () => {
  const check = (_field: string, url: string): string => {
    if (url.endsWith('/fault')) throw new Error('select secret_value from somewhere');
    return url;
  };
  http = await startHttp({
    deps: { redirects: { check, allows: () => true } },
    limits: {
      global: { free: { capacity: 100_000, refillPerSecond: 1 } },
      minting: { capacity: 100_000, refillPerSecond: 1 },
      failures: { capacity: 100_000, refillPerSecond: 1 },
    },
  });
  caller = await http.openAccount();
  ({ key } = caller);
});
afterAll(() => http.close());

const CHECKOUT = '/v1/billing/checkout-session';
const PARAMS = {
  tier: 'api_builder',
  billing_period: 'monthly',
  success_url: 'https://a.b/',
  cancel_url: 'https://a.b/',
};

const send = (body: string | Uint8Array<ArrayBuffer>, headers: Record<string, string> = {}) =>
  http.call(CHECKOUT, {
    key,
    method: 'POST',
    body,
    headers: { 'content-type': 'application/json', ...headers },
  });

describe('the documented paths', () => {
  it('answer the state of an account that never bought anything, exactly as documented', async () => {
    const response = await http.call('/v1/billing', { key });
    expect(response.status).toBe(200);
    expect(response.headers.get('content-type')).toMatch(/^application\/json/);
    expect(await response.json()).toEqual({
      subscription: null,
      trial_pack: { active: false, credit_cents_remaining: 0, expires_at: null, redeemed: false },
    });
  });

  it('start a checkout with exactly the two documented fields', async () => {
    const response = await http.call(CHECKOUT, { key, json: PARAMS });
    expect(response.status).toBe(200);
    expect(await response.json()).toEqual({
      checkout_url: expect.stringMatching(/^https:\/\/checkout\.stripe\.test\//),
      checkout_session_id: expect.stringMatching(/^cs_test_/),
    });
  });

  it.each(['/v1/billing/trial-pack', '/v1/billing/portal-session'])('%s needs no body', async (path) => {
    expect((await http.call(path, { key, method: 'POST' })).status).toBe(200);
    const empty = { key, method: 'POST', headers: { 'content-type': 'application/json' } };
    expect((await http.call(path, empty)).status).toBe(200);
  });

  it('list the audit log as { data, next_cursor }', async () => {
    const { key: fresh } = await http.openAccount();
    const body: unknown = await (await http.call('/v1/account/audit-log?limit=1', { key: fresh })).json();
    expect(body).toMatchObject({ data: [{ action: 'api_key.minted' }], next_cursor: expect.any(String) });
  });
});

describe('the body', () => {
  it('may declare its charset', async () => {
    const response = await send(JSON.stringify(PARAMS), {
      'content-type': 'application/json; charset=utf-8',
    });
    expect(response.status).toBe(200);
    const { checkout_session_id: id } = (await response.json()) as { checkout_session_id: string };
    expect(http.stripe.all('checkout.session').find((session) => session.id === id)).toMatchObject({
      line_items: [{ price: 'price_driftstack_api_builder_monthly' }],
      success_url: PARAMS.success_url,
      cancel_url: PARAMS.cancel_url,
    });
  });

  it.each([
    ['text/plain', {}],
    ['application/x-www-form-urlencoded', {}],
    ['multipart/form-data; boundary=x', {}],
    ['application/octet-stream', {}],
    ['application/json; charset=latin1', {}],
    ['application/json', { 'content-encoding': 'gzip' }],
  ])('of type %s %j is refused with 415', async (type, headers) => {
    const response = await send(JSON.stringify(PARAMS), { 'content-type': type, ...headers });
    expect(response.status).toBe(415);
    expect(await response.json()).toMatchObject({ code: 'unsupported_media_type', status: 415 });
  });

  it.each([
    ['application/json', 'content-length: 0', ''],
    ['application/json', 'transfer-encoding: chunked', '0\r\n\r\n'],
    ['application/json; charset=latin1', 'content-length: 0', ''],
    ['text/plain', 'content-length: 0', ''],
    ['text/plain', 'transfer-encoding: chunked', '0\r\n\r\n'],
    ['multipart/form-data; boundary=x', 'content-length: 0', ''],
    ['not a type', 'content-length: 0', ''],
    ['', 'content-length: 0', ''],
    ['', 'transfer-encoding: chunked', '0\r\n\r\n'],
  ])('that is empty is none, whatever it is said to be: %j, %s', async (type, length, bytes) => {
    for (const path of ['/v1/billing/portal-session', '/trpc/billing.startPortalSession']) {
      const head = [
        `POST ${path} HTTP/1.1`,
        'host: x',
        `authorization: Bearer ${key}`,
        length,
        'connection: close',
      ];
      const lines = [...head, ...(type === '' ? [] : [`content-type: ${type}`]), '', bytes];
      expect(await sendRaw(http.url, lines.join('\r\n'))).toMatch(/^HTTP\/1\.1 200 /);
    }
  });

  it('above 100 kB is refused with 413 and the connection closed', async () => {
    const response = await send(JSON.stringify({ ...PARAMS, success_url: 'x'.repeat(100_000) }));
    expect(response.status).toBe(413);
    expect(response.headers.get('connection')).toBe('close');
    expect(await response.json()).toMatchObject({ code: 'payload_too_large' });
  });

  it.each([
    ['no JSON', '{"tier":'],
    ['two names in one object', '{"tier":"api_builder","tier":"api_scale"}'],
    ['one name spelt in two ways', '{"tier":"api_builder","\\u0074ier":"api_scale"}'],
    ['an escaped NUL', JSON.stringify({ ...PARAMS, success_url: 'https://a.b/\0' })],
    ['half a surrogate pair', '{"tier":"\\ud800"}'],
    ['more than 32 levels', `{"tier":${'['.repeat(32)}${']'.repeat(32)}}`],
    ['fifty thousand levels', '['.repeat(49_999) + ']'.repeat(49_999)],
  ])('with %s is refused as bad-request', async (_what, body) => {
    const response = await send(body);
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ type: 'https://errors.driftstack.dev/bad-request' });
  });

  it('that is not UTF-8 is refused', async () => {
    const response = await send(new Uint8Array([0x22, 0xff, 0x22]));
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ detail: 'The body is not well-formed UTF-8.' });
  });

  it.each([
    ['{}', 'tier'],
    [JSON.stringify({ ...PARAMS, tier: 'free' }), 'tier'],
    [JSON.stringify({ ...PARAMS, extra: 1 }), 'extra'],
    [JSON.stringify({ ...PARAMS, success_url: null }), 'success_url'],
    [JSON.stringify({ ...PARAMS, success_url: ['x'] }), 'success_url'],
    ['[]', ''],
    ['null', ''],
    ['"x"', ''],
    ['{"__proto__":{},"tier":"api_builder","billing_period":"monthly"}', '__proto__'],
  ])('%s is refused naming the field "%s"', async (body, field) => {
    const response = await send(body);
    expect(response.status).toBe(400);
    const problem: unknown = await response.json();
    expect(problem).toMatchObject({ code: 'validation_failed' });
    expect(problem).toMatchObject({ errors: expect.arrayContaining([expect.objectContaining({ field })]) });
  });
});

describe('the parameters', () => {
  it.each([
    ['limit=0', 'limit'],
    ['limit=101', 'limit'],
    ['limit=', 'limit'],
    ['limit=1e1', 'limit'],
    ['limit=ten', 'limit'],
    ['limit=1&limit=2', 'limit'],
    ['cursor=', 'cursor'],
    [`cursor=${'a'.repeat(513)}`, 'cursor'],
    ['toString=1', 'toString'],
    ['__proto__=1', '__proto__'],
    ['constructor=1', 'constructor'],
    ['action=%00', 'action'],
  ])('?%s is refused naming %s', async (query, field) => {
    const response = await http.call(`/v1/account/audit-log?${query}`, { key });
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ code: 'validation_failed', errors: [{ field }] });
  });

  it('a cursor of nobody is a bad request', async () => {
    const response = await http.call('/v1/account/audit-log?cursor=abc', { key });
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ code: 'bad_request' });
  });

  it('reading numbers from a query leaves the schemas strict for bodies', async () => {
    await http.call('/v1/account/audit-log?limit=5', { key });
    const input = encodeURIComponent(JSON.stringify({ limit: '5' }));
    const response = await http.call(`/trpc/auditLog.list?input=${input}`, { key });
    expect(response.status).toBe(400);
  });

  it('X-Driftstack-Account changes nothing', async () => {
    const other = await http.openAccount();
    const headers = { 'x-driftstack-account': `acc_${other.accountId}` };
    const page: unknown = await (await http.call('/v1/account/audit-log', { key, headers })).json();
    expect(JSON.stringify(page)).not.toContain(other.accountId);
  });
});

describe('the path', () => {
  it.each(['/v1/billing/', '/V1/billing', '/v1/Billing', '/v1', '/nothing', '/v1/billing/x'])(
    '%s is nothing',
    async (path) => {
      const response = await http.call(path, { key });
      expect(response.status).toBe(404);
      expect(response.headers.get('content-type')).toBe('application/problem+json');
      expect(await response.json()).toMatchObject({
        code: 'not_found',
        instance: expect.stringMatching(/^req_/),
      });
    },
  );

  it.each([
    ['POST', '/v1/billing', 'GET, HEAD, OPTIONS'],
    ['DELETE', '/v1/billing?x=1', 'GET, HEAD, OPTIONS'],
    ['GET', CHECKOUT, 'OPTIONS, POST'],
    ['PATCH', '/v1/account/audit-log', 'GET, HEAD, OPTIONS'],
  ])('%s %s is 405 and says what is allowed', async (method, path, allow) => {
    const response = await http.call(path, { key, method });
    expect(response.status).toBe(405);
    expect(response.headers.get('allow')).toBe(allow);
    expect(await response.json()).toMatchObject({ code: 'method_not_allowed' });
  });

  it('that cannot be decoded is a bad request', async () => {
    const response = await http.call('/v1/%zz', { key });
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ code: 'bad_request' });
  });
});

describe('Idempotency-Key', () => {
  const withKey = (idempotencyKey: string) =>
    send(JSON.stringify(PARAMS), { 'idempotency-key': idempotencyKey });

  const kept = async () => {
    const { rows } = await http.db.pool.query<{ key: string }>('select key from idempotency_key');
    return rows.map((row) => row.key);
  };

  it('reaches what is called, together with who calls and the request', async () => {
    expect(await kept()).not.toContain('order-1');
    const own = { ...PARAMS, success_url: 'https://a.b/order-1' };
    const response = await send(JSON.stringify(own), { 'idempotency-key': 'order-1' });
    expect(await kept()).toContain('order-1');
    const page = await (await http.call('/v1/account/audit-log?limit=1', { key })).json();
    expect(page).toMatchObject({
      data: [
        {
          action: 'checkout_session.started',
          actor_account_id: `acc_${caller.accountId}`,
          actor_key_id: `key_${caller.keyId}`,
          payload: { request_id: response.headers.get('x-request-id') },
        },
      ],
    });
  });

  it('counts as absent when it is empty', async () => {
    const before = await kept();
    expect((await withKey('')).status).toBe(200);
    expect(await kept()).toEqual(before);
  });

  it.each(['has space', 'a'.repeat(256), 'é'])('refuses %j', async (value) => {
    const response = await withKey(value);
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({
      code: 'bad_request',
      errors: [{ field: 'Idempotency-Key' }],
    });
  });

  it('marks an answer that was given before, and only that', async () => {
    expect((await withKey('again')).headers.get('idempotent-replayed')).toBeNull();
    expect((await withKey('again')).headers.get('idempotent-replayed')).toBe('1');
    expect((await withKey('fresh')).headers.get('idempotent-replayed')).toBeNull();
  });
});

describe('what goes wrong', () => {
  it('carries a problem of ours to the caller', async () => {
    const headers = { 'idempotency-key': 'conflict' };
    await send(JSON.stringify(PARAMS), headers);
    const other = JSON.stringify({ ...PARAMS, billing_period: 'annual' });
    const response = await send(other, headers);
    expect(response.status).toBe(409);
    expect(await response.json()).toEqual({
      type: 'https://errors.driftstack.dev/conflict',
      title: 'Conflict',
      status: 409,
      detail: 'This Idempotency-Key was used for another request. Choose a new one.',
      instance: response.headers.get('x-request-id'),
      code: 'idempotency_key_reused',
      idempotency_status: 'mismatch',
    });
  });

  it('carries nothing else, but logs it under the same request id', async () => {
    const response = await send(JSON.stringify({ ...PARAMS, success_url: 'https://a.b/fault' }));
    expect(response.status).toBe(500);
    const text = await response.text();
    expect(text).not.toContain('secret_value');
    const id = response.headers.get('x-request-id') ?? 'none';
    expect(http.lines.filter((line) => line.includes(id)).join('')).toContain('secret_value');
  });
});
