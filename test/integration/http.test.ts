import { connect, type Socket } from 'node:net';
import { performance } from 'node:perf_hooks';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Subscription } from '../../server/database/entities/billing.ts';
import { uuidv7 } from '../../server/database/uuid.ts';
import { RATE_LIMITS } from '../../server/http/limits.ts';
import { startHttp, type TestHttp } from '../support/http.ts';
import { type DatabaseProxy, startProxy } from '../support/proxy.ts';
import { sendRaw } from '../support/raw-http.ts';

let http: TestHttp;
beforeAll(async () => {
  http = await startHttp();
});
afterAll(() => http.close());

describe('every answer', () => {
  it('has a request id of its own that the log knows', async () => {
    const ids = await Promise.all(
      ['/v1/billing', '/nothing', '/healthz', '/trpc/x'].map(async (path) =>
        (await http.call(path)).headers.get('x-request-id'),
      ),
    );
    expect(new Set(ids).size).toBe(4);
    for (const id of ids) {
      expect(id).toMatch(/^req_[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
      await expect.poll(() => http.lines.some((line) => line.includes(id ?? '?'))).toBe(true);
    }
  });

  it.each(['/v1/billing', '/nothing', '/healthz', '/docs/', '/'])(
    'of %s has the security headers',
    async (path) => {
      const { headers } = await http.call(path);
      expect(headers.get('x-content-type-options')).toBe('nosniff');
      expect(headers.get('referrer-policy')).toBe('no-referrer');
      expect(headers.get('content-security-policy')).toContain("default-src 'none'");
      // What is the same for everybody is kept by browsers, and asked about again.
      expect(headers.get('cache-control')).toBe(path === '/docs/' ? 'public, no-cache' : 'no-store');
    },
  );

  it('may be read by any page, but never with credentials', async () => {
    const headers = { origin: 'https://a.b', 'access-control-request-method': 'POST' };
    const preflight = await http.call('/v1/billing/checkout-session', { method: 'OPTIONS', headers });
    expect(preflight.status).toBe(204);
    expect(preflight.headers.get('access-control-allow-methods')).toBe('POST, OPTIONS');
    expect(preflight.headers.get('access-control-allow-headers')).toContain('idempotency-key');
    const answer = await http.call('/v1/billing', { headers });
    for (const response of [preflight, answer]) {
      expect(response.headers.get('access-control-allow-origin')).toBe('*');
      expect(response.headers.get('access-control-allow-credentials')).toBeNull();
      expect(response.headers.get('set-cookie')).toBeNull();
    }
  });

  it('leaves neither keys nor bodies in the log', async () => {
    const { key } = await http.openAccount();
    const canary = 'https://canary.example/9f2c';
    await http.call('/v1/billing/portal-session', { key, json: { return_url: canary, extra: canary } });
    await http.call('/v1/billing/portal-session', { key, json: { return_url: canary } });
    await http.call(`/v1/billing?checkout_session_id=${key}`, { key });
    const log = http.lines.join('');
    expect(log).not.toContain(key.slice(8));
    expect(log).not.toContain('9f2c');
  });
});

describe('rate limits', () => {
  it('are told in all seven headers, REST and tRPC alike', async () => {
    // A moment that stays, because every second gives a call back.
    const now = new Date();
    const still = await startHttp({ clock: { now: () => now } });
    try {
      const { key } = await still.openAccount();
      for (const [index, path] of ['/v1/billing', '/trpc/billing.getState'].entries()) {
        const { headers } = await still.call(path, { key });
        const remaining = String(60 - 1 - index);
        expect(headers.get('x-ratelimit-bucket')).toBe('global');
        expect(headers.get('x-ratelimit-limit')).toBe('60');
        expect(headers.get('x-ratelimit-remaining')).toBe(remaining);
        expect(Number(headers.get('x-ratelimit-reset'))).toBeGreaterThan(now.getTime() / 1000 - 5);
        expect(headers.get('ratelimit-limit')).toBe('60');
        expect(headers.get('ratelimit-remaining')).toBe(remaining);
        expect(Number(headers.get('ratelimit-reset'))).toBeLessThan(10);
      }
    } finally {
      await still.close();
    }
  });

  // Capacity and refill per second, as Driftstack's own documentation has them.
  it.each([
    ['solo_manual', 120, 2],
    ['team_manual', 360, 6],
    ['agency_manual', 1800, 30],
    ['api_starter', 240, 4],
    ['api_builder', 1800, 30],
    ['api_scale', 6000, 100],
  ] as const)(
    'of %s are %i calls, %i more each second, while the account is entitled to it',
    async (tier, limit, refill) => {
      const { key, accountId } = await http.openAccount();
      const period = { currentPeriodStart: new Date(0), currentPeriodEnd: new Date() };
      const id = uuidv7(new Date());
      const state = { billingPeriod: 'monthly', cancelAtPeriodEnd: false, version: 1 } as const;
      const row = { id, accountId, tier, ...period, ...state, updatedAt: new Date() };
      const em = () => http.db.orm.em.fork();
      await em().insert(Subscription, { ...row, stripeSubscriptionId: id, status: 'active', entitled: true });
      const { headers } = await http.call('/v1/billing', { key });
      expect(headers.get('x-ratelimit-limit')).toBe(String(limit));
      expect(RATE_LIMITS.global[tier]).toEqual({ capacity: limit, refillPerSecond: refill });
      await em().nativeUpdate(Subscription, { id }, { status: 'unpaid', entitled: false });
      expect((await http.call('/v1/billing', { key })).headers.get('x-ratelimit-limit')).toBe('60');
    },
  );

  it('refuse with 429 and Retry-After, each account by itself, and stricter for minting', async () => {
    const strict = await startHttp({
      limits: { ...RATE_LIMITS, minting: { capacity: 2, refillPerSecond: 0.01 } },
    });
    try {
      const [{ key }, { key: other }] = [await strict.openAccount(), await strict.openAccount()];
      const mint = (by: string) => strict.call('/v1/billing/portal-session', { key: by, json: {} });
      expect([(await mint(key)).status, (await mint(key)).status]).toEqual([200, 200]);
      const refused = await mint(key);
      expect(refused.status).toBe(429);
      expect(refused.headers.get('retry-after')).toBe('100');
      expect(refused.headers.get('x-ratelimit-bucket')).toBe('minting');
      expect(refused.headers.get('ratelimit-remaining')).toBe('0');
      expect(await refused.json()).toMatchObject({ code: 'rate_limited', retry_after_seconds: 100 });
      expect((await strict.call('/v1/billing', { key })).status).toBe(200);
      expect((await mint(other)).status).toBe(200);
    } finally {
      await strict.close();
    }
  });

  it('stop an address that keeps trying keys, but not the good keys that share it', async () => {
    const strict = await startHttp({
      limits: { ...RATE_LIMITS, failures: { capacity: 3, refillPerSecond: 0.01 } },
    });
    try {
      const { key } = await strict.openAccount();
      const statuses: number[] = [];
      for (let i = 0; i < 5; i++)
        statuses.push((await strict.call('/v1/billing', { key: 'ds_live_guess' })).status);
      expect(statuses).toEqual([401, 401, 401, 429, 429]);
      expect((await strict.call('/v1/billing', { key: 'x' })).headers.get('retry-after')).not.toBeNull();
      expect((await strict.call('/v1/billing', { key })).status).toBe(200);
    } finally {
      await strict.close();
    }
  });
});

describe('a malformed request', () => {
  it.each([
    ['garbage', '\x00\x01\x02\r\n\r\n'],
    ['no HTTP', 'HELLO\r\n\r\n'],
    ['a bad header', 'GET / HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n'],
    [
      'two lengths',
      'POST /v1/billing/trial-pack HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n',
    ],
    [
      'length and chunks',
      'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n',
    ],
    ['HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'],
    ['no Host', 'GET /v1/billing HTTP/1.1\r\n\r\n'],
    ['a Host that is none, for the page that needs one', 'GET / HTTP/1.1\r\nHost: [\r\n\r\n'],
    ['markup for a Host, for the page that shows it', 'GET / HTTP/1.1\r\nHost: <script>\r\n\r\n'],
  ])('with %s gets 400 as a problem', async (_what, bytes) => {
    const answer = await sendRaw(http.url, bytes);
    expect(answer).toMatch(/^HTTP\/1\.1 400 /);
    expect(answer).toContain('application/problem+json');
    expect(answer).toContain('"instance":"req_');
  });

  it('with headers too large gets 431 as a problem', async () => {
    const answer = await sendRaw(http.url, `GET / HTTP/1.1\r\nHost: x\r\nx: ${'a'.repeat(20_000)}\r\n\r\n`);
    expect(answer).toMatch(/^HTTP\/1\.1 431 /);
    expect(answer).toContain('"status":431');
  });

  it.each([
    'OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n',
    'GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n',
    'GET http://[/v1/billing HTTP/1.1\r\nHost: x\r\n\r\n',
    'GET /v1/billing HTTP/1.1\r\nHost: [\r\n\r\n',
    'GET /trpc/billing.getState HTTP/1.1\r\nHost: [\r\n\r\n',
    'GET // HTTP/1.1\r\nHost: x\r\n\r\n',
    'GET /trpc/?batch=1&input=%zz HTTP/1.1\r\nHost: x\r\n\r\n',
    'CONNECT /v1/billing HTTP/1.1\r\nHost: x\r\n\r\n',
    'PROPFIND /v1/billing HTTP/1.1\r\nHost: x\r\n\r\n',
    'GET /v1/billing HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n',
    'POST /v1/billing/trial-pack HTTP/1.1\r\nHost: x\r\nExpect: something\r\nContent-Length: 0\r\n\r\n',
  ])('such as %j hurts nobody', async (bytes) => {
    const answer = await sendRaw(http.url, bytes);
    if (answer !== '') expect(answer).toMatch(/^HTTP\/1\.1 [45]\d\d /);
    expect(answer).not.toMatch(/^HTTP\/1\.1 500/);
    expect((await http.call('/healthz')).status).toBe(200);
  });

  it('that never ends its headers or its body is cut off', async () => {
    expect(http.app.server.headersTimeout).toBe(10_000);
    expect(http.app.server.requestTimeout).toBe(30_000);
    const hasty = await startHttp();
    try {
      hasty.app.server.headersTimeout = 100;
      hasty.app.server.requestTimeout = 200;
      const answers = await Promise.all([
        sendRaw(hasty.url, 'GET /v1/billing HTTP/1.1\r\nHost: x\r\n', { quietMs: 5_000 }),
        sendRaw(hasty.url, 'POST /v1/billing HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{', {
          quietMs: 5_000,
        }),
      ]);
      expect(answers[0]).toMatch(/^HTTP\/1\.1 408 [\s\S]*problem\+json/);
      expect(answers[1]).toMatch(/^HTTP\/1\.1 4\d\d /);
    } finally {
      await hasty.close();
    }
  });

  it('and a thousand idle connections leave a healthy request under a second', async () => {
    const { hostname, port } = new URL(http.url);
    const idle: Socket[] = [];
    try {
      await Promise.all(
        Array.from({ length: 1_000 }, () => {
          const socket = connect({ host: hostname, port: Number(port) });
          idle.push(socket);
          return new Promise((resolve, reject) => socket.once('connect', resolve).once('error', reject));
        }),
      );
      const { key } = await http.openAccount();
      const tookMs: number[] = [];
      for (let n = 0; n < 5; n += 1) {
        const before = performance.now();
        expect((await http.call('/v1/billing', { key })).status).toBe(200);
        tookMs.push(performance.now() - before);
      }
      // The quickest of them, because a busy machine holds up one or the other.
      expect(Math.min(...tookMs)).toBeLessThan(1_000);
    } finally {
      for (const socket of idle) socket.destroy();
    }
  });
});

describe('too much at a time', () => {
  it('is refused at once with 503 and Retry-After, and slow minting keeps no reader out', async () => {
    const { promise: released, resolve: release } = Promise.withResolvers<void>();
    let started = 0;
    const busy = await startHttp({
      logLevel: 'info',
      maxInFlight: { pages: 8, reading: 2, minting: 2, deliveries: 2 },
      resolve: async () => {
        started += 1;
        await released;
        return ['93.184.215.14'];
      },
    });
    try {
      const { key } = await busy.openAccount();
      const json = { url: 'https://example.com/', events: ['subscription.changed'] };
      const mint = () => busy.call('/v1/webhooks', { key, json });
      const waiting = [mint(), mint()];
      await expect.poll(() => started).toBe(2);
      const refused = await mint();
      expect(refused.status).toBe(503);
      expect(refused.headers.get('retry-after')).toBe('1');
      expect(await refused.json()).toMatchObject({ code: 'internal', retry_after_seconds: 1 });
      await Promise.all(Array.from({ length: 20 }, mint));
      // The log tells of it, and not of each: writing twenty lines would keep the others waiting.
      const told = busy.lines.filter((line) => line.includes('"status":503'));
      expect(told.length).toBeGreaterThan(0);
      expect(told.length).toBeLessThan(10);
      expect((await busy.call('/v1/billing', { key })).status).toBe(200);
      release();
      expect((await Promise.all(waiting)).map(({ status }) => status)).toEqual([201, 201]);
      expect((await mint()).status).toBe(201);
    } finally {
      release();
      await busy.close();
    }
  });
});

describe('without its database', () => {
  it('answers 503 with Retry-After, and recovers by itself', async () => {
    let proxy: DatabaseProxy | undefined;
    const cutOff = await startHttp({
      through: async (url) => {
        proxy = await startProxy(url);
        return proxy.url;
      },
    });
    try {
      const { key } = await cutOff.openAccount();
      proxy?.cut();
      for (const path of ['/v1/billing', '/trpc/billing.getState']) {
        const response = await cutOff.call(path, { key });
        expect(response.status).toBe(503);
        expect(response.headers.get('retry-after')).toBe('1');
        expect(await response.text()).toContain('"retry_after_seconds":1');
      }
      expect((await cutOff.call('/healthz')).status).toBe(200);
      expect((await cutOff.call('/readyz')).status).toBe(503);
      proxy?.restore();
      await expect.poll(async () => (await cutOff.call('/v1/billing', { key })).status).toBe(200);
      expect((await cutOff.call('/readyz')).status).toBe(200);
    } finally {
      await cutOff.close();
      await proxy?.close();
    }
  });
});

describe('for operators', () => {
  it('readiness says when the process is about to stop', async () => {
    let draining = false;
    const stopping = await startHttp({ isDraining: () => draining });
    try {
      expect((await stopping.call('/readyz')).status).toBe(200);
      draining = true;
      const response = await stopping.call('/readyz');
      expect(response.status).toBe(503);
      expect(await response.json()).toEqual({
        status: 'unavailable',
        checks: { database: 'ok', draining: true },
      });
      expect((await stopping.call('/healthz')).status).toBe(200);
    } finally {
      await stopping.close();
    }
  });

  it('metrics count requests by route, never by the path a stranger chose', async () => {
    const { key } = await http.openAccount();
    await http.call('/v1/billing', { key });
    await http.call('/canary-path-7781');
    const text = await (await http.call('/metrics')).text();
    expect(text).toMatch(
      /driftstack_http_request_duration_seconds_count\{method="GET",route="\/v1\/billing",status="200"\} \d+/,
    );
    expect(text).toContain('driftstack_database_connections{state="open"}');
    expect(text).not.toContain('canary');
  });
});

describe('the pages', () => {
  it('list what there is at /', async () => {
    const page = await (await http.call('/')).text();
    for (const path of [
      '/docs/',
      '/openapi.json',
      '/healthz',
      '/readyz',
      '/metrics',
      `${http.url}/v1/billing`,
    ])
      expect(page).toContain(path);
  });

  it('serve the OpenAPI document', async () => {
    const document: unknown = await (await http.call('/openapi.json')).json();
    expect(document).toMatchObject({ openapi: '3.1.0' });
  });

  it('show the reference from here alone', async () => {
    const response = await http.call('/docs');
    expect(new URL(response.url).pathname).toBe('/docs/');
    const page = await response.text();
    const sources = [...page.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, source = '']) => source);
    expect(sources).not.toEqual([]);
    for (const source of sources) expect(new URL(source, response.url).origin).toBe(http.url);
    expect(page).toContain('"telemetry": false');
    expect(page).toContain('"withDefaultFonts": false');
    expect(response.headers.get('content-security-policy')).toContain("connect-src 'self'");
    const [script = ''] = sources;
    expect((await fetch(new URL(script, response.url))).headers.get('content-type')).toContain('javascript');
  });
});

describe('a process without the API', () => {
  it('answers nothing but its health', async () => {
    const worker = await startHttp({ withoutApi: true });
    try {
      for (const path of ['/v1/billing', '/trpc/billing.getState', '/docs/', '/webhooks/stripe']) {
        expect((await worker.call(path)).status).toBe(404);
      }
      expect((await worker.call('/readyz')).status).toBe(200);
    } finally {
      await worker.close();
    }
  });
});
