import { randomBytes } from 'node:crypto';
import { request } from 'node:http';
import {
  createTRPCClient,
  httpBatchLink,
  httpBatchStreamLink,
  httpLink,
  httpSubscriptionLink,
  loggerLink,
  retryLink,
  splitLink,
  TRPCClientError,
  type TRPCLink,
} from '@trpc/client';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { AppRouter } from '../../server/api/root.ts';
import { problemSchema } from '../../shared/errors.ts';
import { startHttp, type TestHttp } from '../support/http.ts';

let http: TestHttp;
let key: string;
beforeAll(async () => {
  http = await startHttp();
  ({ key } = await http.openAccount());
});
afterAll(() => http.close());

type Options = { url: string; headers: () => Record<string, string> };
const optionsFor = (bearer: string): Options => ({
  url: `${http.url}/trpc`,
  headers: () => ({ authorization: `Bearer ${bearer}` }),
});
type Links = (options: Options) => TRPCLink<AppRouter>[];
const LINKS: Readonly<Record<string, Links>> = {
  httpLink: (options) => [httpLink(options)],
  httpBatchLink: (options) => [httpBatchLink(options)],
  httpBatchStreamLink: (options) => [httpBatchStreamLink(options)],
  'httpBatchStreamLink that names its header accept': (options) => [
    httpBatchStreamLink({ ...options, streamHeader: 'accept' }),
  ],
  'splitLink over both': (options) => [
    splitLink({
      condition: ({ type }) => type === 'query',
      true: httpBatchStreamLink(options),
      false: httpLink(options),
    }),
  ],
  'loggerLink and retryLink before a batch': (options) => [
    loggerLink({ logger: () => undefined }),
    retryLink({ retry: ({ attempts }) => attempts < 2 }),
    httpBatchLink(options),
  ],
};
const clientOf = (links: Links, bearer = key) =>
  createTRPCClient<AppRouter>({ links: links(optionsFor(bearer)) });
const refusal = async (work: Promise<unknown>): Promise<TRPCClientError<AppRouter>> => {
  const outcome = await work.catch((error: unknown) => error);
  if (outcome instanceof TRPCClientError) return outcome;
  throw outcome instanceof Error ? outcome : new Error('it was expected to be refused');
};
const problemIn = ({ data }: TRPCClientError<AppRouter>) =>
  problemSchema.parse(data instanceof Object && 'problem' in data ? data.problem : undefined);

describe.each(Object.entries(LINKS))('%s', (_name, links) => {
  it('reads and changes', async () => {
    const client = clientOf(links);
    const { trial_pack: pack } = await client.billing.getState.query();
    expect(pack).toMatchObject({ redeemed: false });
    expect(await client.billing.startPortalSession.mutate({})).toMatchObject({
      portal_url: expect.any(String),
    });
  });

  it('takes several calls at once, each with its own outcome', async () => {
    const client = clientOf(links);
    const [state, page, refused] = await Promise.allSettled([
      client.billing.getState.query(),
      client.auditLog.list.query({ limit: 1 }),
      client.auditLog.list.query({ limit: 1_000 }),
    ]);
    expect(state).toMatchObject({ status: 'fulfilled', value: { subscription: null } });
    expect(page).toMatchObject({ status: 'fulfilled', value: { data: expect.any(Array) } });
    const reason: unknown = refused.status === 'rejected' ? refused.reason : undefined;
    if (!(reason instanceof TRPCClientError)) throw new Error('the third call was expected to be refused');
    expect(problemIn(reason)).toMatchObject({ code: 'validation_failed', errors: [{ field: 'limit' }] });
  });

  it('hears in words why a call is refused', async () => {
    const stranger = clientOf(links, `ds_live_${'x'.repeat(43)}`);
    const both = await Promise.all([
      refusal(stranger.billing.getState.query()),
      refusal(stranger.auditLog.list.query()),
    ]);
    for (const error of both) expect(problemIn(error)).toMatchObject({ code: 'invalid_key', status: 401 });
    const error = await refusal(clientOf(links).webhooks.create.mutate({ url: 'ftp://x', events: [] }));
    expect(problemIn(error)).toMatchObject({ code: 'validation_failed', status: 400 });
  });
});

it('a batch of too many is refused in words over a stream too', async () => {
  const client = clientOf(LINKS['httpBatchStreamLink'] ?? (() => []));
  const errors = await Promise.all(
    Array.from({ length: 11 }, () => refusal(client.billing.getState.query())),
  );
  for (const error of errors) expect(problemIn(error).detail).toContain('maxItems: 10');
});

it('a stream that is no batch is refused in words', async () => {
  const headers = { 'trpc-accept': 'application/jsonl' };
  const answer = await http.call('/trpc/billing.getState', { key, headers });
  expect(answer.status).toBe(400);
  expect(await answer.json()).toMatchObject({ error: { data: { problem: { code: 'bad_request' } } } });
});

it('a page of another origin may ask for a stream', async () => {
  const answer = await http.call('/trpc/x', { method: 'OPTIONS' });
  expect(answer.headers.get('access-control-allow-headers')).toContain('trpc-accept');
});

it('queries by POST are refused in words, as the contract says', async () => {
  for (const link of [httpLink, httpBatchLink, httpBatchStreamLink]) {
    const client = clientOf((options) => [link({ ...options, methodOverride: 'POST' })]);
    expect(problemIn(await refusal(client.billing.getState.query()))).toMatchObject({
      code: 'method_not_allowed',
      detail: 'Send queries by GET and mutations by POST.',
    });
  }
});

it('there is nothing to subscribe to, and whoever tries hears so', async () => {
  const answer = await http.call('/trpc/billing.changes', { key, headers: { accept: 'text/event-stream' } });
  expect(answer.status).toBe(404);
  expect(await answer.json()).toMatchObject({ error: { data: { problem: { code: 'not_found' } } } });
  expect(httpSubscriptionLink).toBeTypeOf('function');
});

it('a WebSocket, as wsLink opens it, is refused as any request that is no call', async () => {
  const asked = request(`${http.url}/trpc`, {
    headers: {
      connection: 'Upgrade',
      upgrade: 'websocket',
      'sec-websocket-version': '13',
      'sec-websocket-key': randomBytes(16).toString('base64'),
    },
  });
  const answer = Promise.withResolvers<number | undefined>();
  asked.on('response', ({ statusCode }) => answer.resolve(statusCode)).on('error', answer.reject);
  asked.on('upgrade', () => answer.resolve(101)).end();
  expect(await answer.promise).toBe(404);
  asked.destroy();
});
