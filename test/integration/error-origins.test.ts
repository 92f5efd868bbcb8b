import { once } from 'node:events';
import { connect, createServer, type Server } from 'node:net';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { problemOf } from '../../server/api/problem.ts';
import { isDatabaseError } from '../../server/database/origin.ts';
import { isDatabaseUnavailable } from '../../server/database/unavailable.ts';
import { connectResend } from '../../server/notify/resend.ts';
import { connectStripe } from '../../server/stripe/api/gateway.ts';
import { isOutage, reasonOf } from '../../server/stripe/sync/failure.ts';
import { startHttp, type TestHttp } from '../support/http.ts';
import { untilTrue } from '../support/service.ts';

let http: TestHttp;
/** Takes connections and ends each of them at once, as a network does that has had enough. */
let resetting: Server;
let resettingUrl: string;
let closedUrl: string;
beforeAll(async () => {
  http = await startHttp({ webhooks: { takeIn: async () => 'stored' } });
  resetting = createServer((socket) => socket.resetAndDestroy()).listen(0, '127.0.0.1');
  await once(resetting, 'listening');
  const address = resetting.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  resettingUrl = `http://127.0.0.1:${address.port}`;
  closedUrl = 'http://127.0.0.1:1';
});
afterAll(async () => {
  await http.close();
  resetting.close();
});

const thrownBy = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => expect.unreachable('should have failed'),
    (error: unknown) => error,
  );
const levels = (lines: readonly string[]) => lines.map((line) => Reflect.get(JSON.parse(line), 'level'));

describe('an upload that its caller cuts off', () => {
  it.each(['/v1/billing/checkout-session', '/webhooks/stripe', '/trpc/billing.createCheckoutSession'])(
    'to %s is the caller’s doing, and no outage of the database',
    async (path) => {
      const { key } = await http.openAccount();
      const before = http.lines.length;
      const { hostname, port } = new URL(http.url);
      for (let n = 0; n < 60; n += 1) {
        const socket = connect({ host: hostname, port: Number(port) });
        socket.on('error', () => {});
        await once(socket, 'connect');
        const head = `POST ${path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${key}\r\nContent-Type: application/json\r\nContent-Length: 90000\r\n\r\n`;
        await new Promise<void>((resolve) => socket.write(head + 'x'.repeat(40_000), () => resolve()));
        // Half of them leave without a word, half with one.
        if (n % 2 === 0) socket.resetAndDestroy();
        else socket.end();
      }
      // Half of them were answered before they were gone; the service is done with all of them.
      const left = promisify(http.app.server.getConnections.bind(http.app.server));
      await untilTrue(async () => (await left()) === 0);
      expect(levels(http.lines.slice(before))).not.toContain('error');
      expect(http.lines.slice(before).join('')).not.toMatch(/database/i);
    },
  );
});

describe('the code of an error alone tells nobody where it arose', () => {
  it.each(['ECONNRESET', 'ECONNREFUSED', 'EPIPE', 'ETIMEDOUT', 'ENOTFOUND', '57014', '40P01'])(
    '%s',
    (code) => {
      const error = Object.assign(new Error('it went wrong'), { code });
      expect(isDatabaseUnavailable(error)).toBe(false);
      expect(isDatabaseUnavailable(new Error('outer', { cause: error }))).toBe(false);
      expect(isDatabaseUnavailable(new AggregateError([error]))).toBe(false);
      expect(isOutage(error)).toBe(false);
      expect(reasonOf(error)).toBe('it went wrong');
      expect(problemOf(error)).toMatchObject({ status: 500 });
    },
  );

  it('nor do the words of one', () => {
    expect(isDatabaseUnavailable(new Error('Connection terminated'))).toBe(false);
    expect(isDatabaseUnavailable(new Error('timeout expired'))).toBe(false);
  });

  it('of Stripe, refusing connections or ending them, is Stripe’s', async () => {
    for (const apiBase of [closedUrl, resettingUrl]) {
      const gateway = connectStripe({ secretKey: 'sk_test_origins', apiBase, timeoutMs: 500 });
      const error = await thrownBy(gateway.within(2_000).readCustomer('cus_1'));
      expect(isDatabaseUnavailable(error)).toBe(false);
      expect(problemOf(error)).toMatchObject({
        status: 503,
        message: expect.stringContaining('Stripe could not be reached'),
      });
    }
  });

  it('of Resend is a result, whatever its line did', async () => {
    for (const baseUrl of [closedUrl, resettingUrl]) {
      const sender = connectResend({ apiKey: 're_origins', baseUrl, timeoutMs: 500 });
      const mail = { from: 'a@driftstack.test', to: 'b@driftstack.test', subject: 's', html: 'h', text: 't' };
      expect(await sender.send(mail, 'key-1')).toMatchObject({ kind: 'unclear' });
    }
  });

  it('of the database is the database’s, by whichever way it came', async () => {
    const { db } = http;
    const ways: (() => Promise<unknown>)[] = [
      () => db.pool.query('select pg_terminate_backend(pg_backend_pid())'),
      () => db.transaction((tx) => tx.execute('select pg_terminate_backend(pg_backend_pid())')),
      () => db.orm.em.fork().execute('select pg_terminate_backend(pg_backend_pid())'),
      async () => {
        const client = await db.pool.connect();
        client.on('error', () => {});
        try {
          return await client.query('select pg_terminate_backend(pg_backend_pid())');
        } finally {
          client.release(true);
        }
      },
    ];
    for (const way of ways) {
      const error = await thrownBy(way());
      expect(isDatabaseError(error)).toBe(true);
      expect(isDatabaseUnavailable(error)).toBe(true);
      expect(problemOf(error)).toMatchObject({
        status: 503,
        message: expect.stringContaining('The database'),
      });
    }
    const refused = await thrownBy(db.pool.query('select nonsense'));
    expect(isDatabaseError(refused)).toBe(true);
    expect(isDatabaseUnavailable(refused)).toBe(false);
  });
});
