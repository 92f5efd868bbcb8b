import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { brotliDecompressSync, gunzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { buildOperations } from '../../server/http/app.ts';
import { CONNECTIONS } from '../../server/http/connections.ts';
import { MOST_IN_FLIGHT } from '../../server/http/gate.ts';
import { createMetrics } from '../../server/http/metrics.ts';
import { startHttp, type TestHttp, type TestHttpOptions } from '../support/http.ts';
import { untilTrue } from '../support/service.ts';

let http: TestHttp;
let sockets: Socket[];
let release: () => Promise<void>;
beforeEach(() => {
  sockets = [];
  release = async () => {};
});
afterEach(async () => {
  await release();
  for (const socket of sockets) socket.destroy();
  await http.close();
});
const open = async (options: TestHttpOptions = {}) => {
  http = await startHttp(options);
};

/** Keeps every read of a caller waiting; `begun` says how many wait. */
async function holdReads(): Promise<{ begun(): Promise<number> }> {
  const lock = await http.db.pool.connect();
  await lock.query('begin');
  await lock.query('lock table api_key in access exclusive mode');
  release = async () => {
    release = async () => {};
    await lock.query('rollback');
    lock.release();
  };
  const waiting = 'select from pg_stat_activity where pg_backend_pid() = any(pg_blocking_pids(pid))';
  return {
    begun: async () => {
      // Else a transaction goes on seeing what it saw first.
      await lock.query('select pg_stat_clear_snapshot()');
      return (await lock.query(waiting)).rowCount ?? 0;
    },
  };
}

/** A connection of a stranger's; what it received is in `text()`. */
async function dial() {
  const { hostname, port } = new URL(http.url);
  const socket = connect({ host: hostname, port: Number(port) });
  sockets.push(socket);
  let text = '';
  let closed = false;
  socket.on('data', (chunk) => {
    text += chunk.toString('latin1');
  });
  socket.on('error', () => {});
  socket.on('close', () => {
    closed = true;
  });
  await Promise.race([once(socket, 'connect'), once(socket, 'close')]);
  return { socket, text: () => text, isClosed: () => closed };
}
const get = (path: string, headers = '') => `GET ${path} HTTP/1.1\r\nHost: x\r\n${headers}\r\n`;
const statuses = (text: string) => [...text.matchAll(/HTTP\/1\.1 (\d{3})/g)].map(([, status]) => status);

describe('requests that come on one connection before their answers', () => {
  it('are worked on one after the other, and answered in order', async () => {
    await open();
    const { key } = await http.openAccount();
    const { begun } = await holdReads();
    const { socket, text } = await dial();
    const billing = get('/v1/billing', `Authorization: Bearer ${key}\r\n`);
    socket.write(`${billing}${billing}${get('/nothing')}${billing}${get('/healthz')}`);
    await untilTrue(async () => (await begun()) > 0);
    // A stranger's whole exchange later there would be more of them, were there to be any.
    expect((await http.call('/healthz')).status).toBe(200);
    expect(await begun()).toBe(1);
    await release();
    await untilTrue(() => statuses(text()).length === 5);
    expect(statuses(text())).toEqual(['200', '200', '404', '200', '200']);
  });

  it('beyond what may wait end the connection, and none of them is begun', async () => {
    await open();
    const { key } = await http.openAccount();
    const { begun } = await holdReads();
    const { socket, isClosed } = await dial();
    socket.write(get('/v1/billing', `Authorization: Bearer ${key}\r\n`).repeat(1_400));
    await untilTrue(isClosed);
    expect((await http.call('/healthz')).status).toBe(200);
    expect(await begun()).toBeLessThanOrEqual(1);
    await release();
  });

  it.each(['/metrics', '/readyz', '/openapi.json', '/docs/', '/nothing'])(
    'hold at %s as well',
    async (path) => {
      await open();
      const { socket, text, isClosed } = await dial();
      socket.write(get(path).repeat(1_400));
      await untilTrue(isClosed);
      expect(statuses(text()).length).toBeLessThanOrEqual(1 + CONNECTIONS.waiting);
    },
  );
});

describe('connections', () => {
  it.each([
    ['in all', { inAll: 5, ofAddress: 100 }],
    ['from one address', { inAll: 100, ofAddress: 5 }],
  ])('beyond the bound %s are closed, and those before them are served', async (_, bounds) => {
    await open({ connections: { ...CONNECTIONS, ...bounds } });
    const first = await Promise.all(Array.from({ length: 5 }, dial));
    const late = await dial();
    await untilTrue(late.isClosed);
    for (const { socket, text } of first) {
      socket.write(get('/healthz'));
      await untilTrue(() => statuses(text()).length === 1);
    }
    expect(http.lines.filter((line) => line.includes('connections are refused'))).toHaveLength(1);
    // A place that is left is given again.
    first[0]?.socket.destroy();
    await untilTrue(async () => {
      const { socket, text, isClosed } = await dial();
      socket.write(get('/healthz'));
      await untilTrue(() => isClosed() || statuses(text()).length === 1);
      return statuses(text()).length === 1;
    });
  });

  it('are bounded everywhere by default, one address to half of it', async () => {
    await open();
    expect(http.app.server.maxConnections).toBe(4_000);
    expect(CONNECTIONS.ofAddress).toBe(2_000);
    expect(http.app.server.timeout).toBeGreaterThan(http.app.server.keepAliveTimeout);
  });
});

describe('bodies on their way', () => {
  const BOUND = 1_000_000;
  const part = (bytes: number, whole: number) =>
    `POST /webhooks/stripe HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: ${whole}\r\n\r\n${'x'.repeat(bytes)}`;
  let taken: number;
  beforeEach(async () => {
    taken = 0;
    await open({
      mostBodyBytes: BOUND,
      webhooks: {
        takeIn: async () => {
          taken += 1;
          return 'stored';
        },
      },
    });
  });

  it('hold no more than the bound: the one longest on its way is told to come back', async () => {
    const slow: Awaited<ReturnType<typeof dial>>[] = [];
    for (let n = 0; n < 9; n += 1) {
      const one = await dial();
      one.socket.write(part(100_000, 100_001));
      slow.push(one);
    }
    const mine = await dial();
    mine.socket.write(part(200_000, 200_000));
    await untilTrue(() => statuses(mine.text()).length === 1);
    expect(statuses(mine.text())).toEqual(['200']);
    expect(taken).toBe(1);
    await untilTrue(() => slow.some(({ isClosed }) => isClosed()));
    const ended = slow.filter(({ text }) => text() !== '');
    // 900,000 and 200,000 are 100,000 more than there may be: one of them, or two where packets came apart.
    expect(ended.length).toBeLessThanOrEqual(2);
    expect(ended[0]?.text()).toMatch(
      /^HTTP\/1\.1 503 [\s\S]*retry-after: 1\r\n[\s\S]*"retry_after_seconds":1/,
    );
    // The others go on as if nothing had been.
    const last = slow.at(-1) ?? expect.unreachable();
    last.socket.write('x');
    await untilTrue(() => statuses(last.text()).length === 1);
    expect(statuses(last.text())).toEqual(['200']);
  });

  it('give their bytes back when they are answered, refused or cut off', async () => {
    for (let n = 0; n < 12; n += 1) {
      const { socket, text } = await dial();
      socket.write(part(300_000, 300_000));
      await untilTrue(() => statuses(text()).length === 1);
      expect(statuses(text())).toEqual(['200']);
      const leaver = await dial();
      leaver.socket.write(part(300_000, 300_001), () => leaver.socket.resetAndDestroy());
      await once(leaver.socket, 'close');
    }
    const patient = await dial();
    patient.socket.write(part(900_000, 900_001));
    await untilTrue(() => patient.socket.writableLength === 0);
    expect((await http.call('/healthz')).status).toBe(200);
    patient.socket.write('x');
    await untilTrue(() => statuses(patient.text()).length === 1);
    expect(statuses(patient.text())).toEqual(['200']);
  });
});

describe('what is public', () => {
  it.each(['/openapi.json', '/docs/'])(
    'is the same whatever its encoding at %s, and asked about again',
    async (path) => {
      await open();
      const raw = async (encoding: string, more = {}) => {
        const answer = await http.app.inject({
          url: path,
          headers: { 'accept-encoding': encoding, ...more },
        });
        return answer;
      };
      const plain = await raw('identity');
      expect(plain.headers['content-encoding']).toBeUndefined();
      expect(plain.headers['cache-control']).toBe('public, no-cache');
      const etag = String(plain.headers.etag);
      expect((await raw('br;q=0, gzip;q=0, deflate')).headers['content-encoding']).toBeUndefined();
      if (path === '/openapi.json') {
        const gzip = await raw('gzip');
        expect(gzip.headers['content-encoding']).toBe('gzip');
        expect(gunzipSync(gzip.rawPayload).equals(plain.rawPayload)).toBe(true);
        const br = await raw('gzip, deflate, br');
        expect(br.headers['content-encoding']).toBe('br');
        expect(brotliDecompressSync(br.rawPayload).equals(plain.rawPayload)).toBe(true);
        expect(br.rawPayload.length * 5).toBeLessThan(plain.rawPayload.length);
        expect(br.headers.vary).toContain('accept-encoding');
      }
      const known = await raw('br', { 'if-none-match': `"other", ${etag}` });
      expect(known.statusCode).toBe(304);
      expect(known.rawPayload).toHaveLength(0);
      expect((await raw('br', { 'if-none-match': '"other"' })).statusCode).toBe(200);
    },
  );

  it('is compressed once, however many ask at the same time', async () => {
    await open();
    const answers = await Promise.all(
      Array.from({ length: 30 }, () =>
        http.app.inject({ url: '/openapi.json', headers: { 'accept-encoding': 'br' } }),
      ),
    );
    const [first, ...others] = answers.map(({ rawPayload }) => rawPayload);
    for (const other of others) expect(first?.equals(other)).toBe(true);
  });

  it('has its script under a name of its content, kept for ever and a quarter of its size', async () => {
    await open();
    const page = await http.app.inject('/docs/');
    expect(page.payload).toContain('<html lang="en">');
    expect(page.payload).toContain('--scalar-color-3: #666');
    const name = /<script src="(scalar-[\w-]{20}\.js)">/.exec(page.payload)?.[1] ?? expect.unreachable();
    const script = await http.app.inject({ url: `/docs/${name}`, headers: { 'accept-encoding': 'br' } });
    expect(script.headers['cache-control']).toBe('public, max-age=31536000, immutable');
    expect(script.headers['content-type']).toContain('javascript');
    const whole = brotliDecompressSync(script.rawPayload);
    expect(whole.toString()).toContain('createApiReference');
    expect(script.rawPayload.length * 4).toBeLessThan(whole.length);
    expect((await http.app.inject('/docs/scalar-other.js')).statusCode).toBe(404);
  });

  it('goes to so many readers at a time, and the rest are told to come back', async () => {
    await open({ maxInFlight: { ...MOST_IN_FLIGHT, pages: 2 } });
    const page = await http.app.inject('/docs/');
    const name = /<script src="([^"]+)">/.exec(page.payload)?.[1] ?? '';
    for (let n = 0; n < 2; n += 1) {
      const { socket } = await dial();
      // More than the sockets of both sides hold: whoever reads no further has the place until they are given up.
      socket.once('data', () => socket.pause());
      socket.write(get(`/docs/${name}`).repeat(16));
    }
    let third = await http.call('/openapi.json');
    await untilTrue(async () => {
      third = await http.call('/openapi.json');
      return third.status === 503;
    });
    expect(third.headers.get('retry-after')).toBe('1');
    const { key } = await http.openAccount();
    expect((await http.call('/v1/billing', { key })).status).toBe(200);
    for (const socket of sockets) socket.destroy();
    await untilTrue(async () => (await http.call('/openapi.json')).status === 200);
  });

  it('is kept from nobody by those who do not read it', async () => {
    await open({ maxInFlight: { ...MOST_IN_FLIGHT, pages: 2 } });
    const page = await http.app.inject('/docs/');
    const name = /<script src="([^"]+)">/.exec(page.payload)?.[1] ?? '';
    for (let n = 0; n < 2; n += 1) {
      const { socket } = await dial();
      socket.once('data', () => socket.pause());
      socket.write(get(`/docs/${name}`).repeat(16));
    }
    const status = async () => (await http.call('/openapi.json')).status;
    await untilTrue(async () => (await status()) === 503);
    await untilTrue(async () => (await status()) === 200);
    // One place is free now, however long the other stands still, and whoever has it gives it back.
    for (let n = 0; n < 5; n += 1) expect(await status()).toBe(200);
  });
});

describe('readiness and metrics', () => {
  it.each(['/metrics', '/readyz'])('cost what two readings cost at %s, however many ask', async (path) => {
    await open();
    await http.call(path);
    let asked = 0;
    http.db.pool.on('acquire', () => {
      asked += 1;
    });
    await http.call(path);
    const once = asked;
    expect(once).toBeGreaterThan(0);
    const beganMs = performance.now();
    const answers = await Promise.all(Array.from({ length: 40 }, () => http.call(path)));
    for (const { status } of answers) expect(status).toBe(200);
    // Readings begin a tenth of a second apart or more, and forty calls may come over several of these.
    const tenths = Math.ceil((performance.now() - beganMs) / 100);
    expect(asked).toBeLessThanOrEqual((2 + tenths) * once);
  });

  it.each(['/metrics', '/readyz'])('answer no page of another site at %s', async (path) => {
    await open();
    for (const site of ['cross-site', 'same-site']) {
      const refused = await http.app.inject({ url: path, headers: { 'sec-fetch-site': site } });
      expect(refused.statusCode).toBe(403);
      expect(refused.headers['content-type']).toBe('application/problem+json');
    }
    const old = await http.app.inject({ url: path, headers: { origin: 'https://page.example' } });
    expect(old.statusCode).toBe(403);
    for (const headers of [{}, { 'sec-fetch-site': 'none' }, { 'sec-fetch-site': 'same-origin' }]) {
      const answer = await http.app.inject({ url: path, headers });
      expect(answer.statusCode).toBe(200);
      expect(answer.headers['access-control-allow-origin']).toBeUndefined();
      expect(answer.headers['cross-origin-resource-policy']).toBe('same-origin');
    }
  });

  it('have a server of their own where the operator wants it, and are nowhere else then', async () => {
    await open({ withoutOperations: true });
    for (const path of ['/metrics', '/readyz']) expect((await http.call(path)).status).toBe(404);
    expect((await http.call('/healthz')).status).toBe(200);
    expect(await (await http.call('/')).text()).not.toContain('metrics');
    const { db, app } = http;
    const operations = buildOperations({
      db,
      clock: { now: () => new Date() },
      log: app.log,
      metrics: createMetrics({ db, clock: { now: () => new Date() } }),
      isDraining: () => false,
    });
    try {
      for (const path of ['/metrics', '/readyz', '/healthz'])
        expect((await operations.inject(path)).statusCode).toBe(200);
      for (const path of ['/', '/v1/billing', '/docs/', '/webhooks/stripe'])
        expect((await operations.inject(path)).statusCode).toBe(404);
    } finally {
      await operations.close();
    }
  });
});
