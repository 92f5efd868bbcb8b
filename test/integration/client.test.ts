import { execFile } from 'node:child_process';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, expectTypeOf, it } from 'vitest';
import type { BillingState } from '../../shared/billing.ts';
import { Driftstack } from '../../shared/client.ts';
import { DriftstackError, isRetryable } from '../../shared/client-errors.ts';
import { ProblemError } from '../../shared/errors.ts';
import { startHttp, type TestHttp } from '../support/http.ts';

let http: TestHttp;
let client: Driftstack;
beforeAll(async () => {
  http = await startHttp();
  const { key } = await http.openAccount();
  client = new Driftstack({ apiKey: key, baseUrl: `${http.url}/` });
});
afterAll(() => http.close());

const failure = async (calling: Promise<unknown>): Promise<DriftstackError> => {
  try {
    await calling;
  } catch (error) {
    if (error instanceof DriftstackError) return error;
    throw error;
  }
  throw new Error('The call succeeded');
};

it('reads exactly as documented', async () => {
  const state = await client.billing.getState();
  expectTypeOf(state).toEqualTypeOf<BillingState>();
  expect(state.subscription).toBeNull();
  const { portal_url } = await client.billing.startPortalSession();
  expect(portal_url).toMatch(/^https:\/\/billing\.stripe\.test\//);
});

it('sends the Idempotency-Key it is given, and none otherwise', async () => {
  await client.billing.startPortalSession({}, { idempotencyKey: 'order-7' });
  await client.billing.startPortalSession();
  const { rows } = await http.db.pool.query('select key from idempotency_key');
  expect(rows).toEqual([{ key: 'order-7' }]);
});

it('throws what the service said, with the request id', async () => {
  await client.billing.startPortalSession({}, { idempotencyKey: 'order-8' });
  const error = await failure(client.billing.startTrialPack({}, { idempotencyKey: 'order-8' }));
  expect(error).toMatchObject({
    kind: 'conflict',
    status: 409,
    type: 'https://errors.driftstack.dev/conflict',
    detail: 'This Idempotency-Key was used for another request. Choose a new one.',
    code: 'idempotency_key_reused',
    requestId: expect.stringMatching(/^req_/),
  });
  expect(isRetryable(error)).toBe(false);
});

it('tells what is worth repeating, and after how long', async () => {
  http.stripe.interfere(() => ({ kind: 'answer', status: 500, body: '{"error":{"type":"api_error"}}' }));
  const error = await failure(
    client.billing.startCheckoutSession({ tier: 'api_builder', billing_period: 'monthly' }),
  );
  http.stripe.interfere(() => undefined);
  expect(error).toMatchObject({ kind: 'internal', status: 502, extensions: { retry_after_seconds: 5 } });
  expect(isRetryable(error)).toBe(true);
  expect(isRetryable(new Error('anything'))).toBe(false);
});

it('names a key that does not work', async () => {
  const stranger = new Driftstack({ apiKey: 'ds_live_nobody', baseUrl: http.url });
  expect(await failure(stranger.billing.getState())).toMatchObject({ kind: 'invalid-key', status: 401 });
});

it('turns a network failure into the same class, worth repeating', async () => {
  const nowhere = new Driftstack({ apiKey: 'ds_live_x', baseUrl: 'http://127.0.0.1:9' });
  const error = await failure(nowhere.billing.getState());
  expect(error).toMatchObject({ kind: 'network', status: 0, requestId: null });
  expect(isRetryable(error)).toBe(true);
});

it('gives up after its time limit, and when it is told to', async () => {
  const never = () => new Promise<Response>(() => {});
  const abortable: typeof fetch = (_url, init) =>
    Promise.race([
      never(),
      new Promise<Response>((_resolve, reject) =>
        init?.signal?.addEventListener('abort', () => reject(new Error('aborted'))),
      ),
    ]);
  const slow = new Driftstack({ apiKey: 'ds_live_x', baseUrl: 'http://x', fetch: abortable, timeoutMs: 20 });
  expect((await failure(slow.billing.getState())).kind).toBe('network');
  const patient = new Driftstack({ apiKey: 'ds_live_x', baseUrl: 'http://x', fetch: abortable });
  const signal = AbortSignal.timeout(20);
  expect((await failure(patient.billing.getState({}, { signal }))).kind).toBe('network');
});

it.each([
  [502, 'text/html', '<h1>Bad gateway</h1>', 'internal'],
  [404, 'text/html', '<h1>Not found</h1>', 'unexpected-answer'],
  [200, 'text/html', 'Hello', 'unexpected-answer'],
  [403, 'application/json', '{"message":"no"}', 'unexpected-answer'],
  [
    413,
    'application/problem+json',
    JSON.stringify(new ProblemError('payload-too-large', 'x').toProblem('req_1')),
    'payload-too-large',
  ],
])('understands an answer of %i as %s that tRPC did not give', async (status, type, body, kind) => {
  const server = createServer((_request, response) =>
    response.writeHead(status, { 'content-type': type }).end(body),
  );
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  try {
    // Listening on a port, it has the address of one.
    const { port } = server.address() as AddressInfo;
    const other = new Driftstack({ apiKey: 'ds_live_x', baseUrl: `http://127.0.0.1:${port}` });
    expect(await failure(other.billing.getState())).toMatchObject({ kind, status });
  } finally {
    server.closeAllConnections();
    server.close();
  }
});

it('walks the whole audit log, newest first, each entry once', async () => {
  const { key } = await http.openAccount();
  const own = new Driftstack({ apiKey: key, baseUrl: http.url });
  const seen: string[] = [];
  for await (const entry of own.auditLog.iterate({ limit: 1 })) seen.push(entry.action);
  expect(seen).toEqual(['api_key.minted', 'account.created']);
  const page = await own.auditLog.list({ action: 'account.created' });
  expect(page.data.map(({ action }) => action)).toEqual(['account.created']);
});

it('loads nothing of the server', async () => {
  const script = `
    import { registerHooks } from 'node:module';
    const loaded = [];
    registerHooks({ load(url, context, next) { loaded.push(url); return next(url, context); } });
    await import(${JSON.stringify(new URL('../../shared/client.ts', import.meta.url).href)});
    console.log(JSON.stringify(loaded));`;
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '--eval', script]);
  expect(stdout).toContain('/shared/client.ts');
  expect(stdout).not.toContain(new URL('../../server/', import.meta.url).href);
});
