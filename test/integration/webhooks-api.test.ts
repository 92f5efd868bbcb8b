import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buildOpenApi } from '../../server/api/openapi.ts';
import { recordEvent } from '../../server/webhooks/record-event.ts';
import { Driftstack } from '../../shared/client.ts';
import { DriftstackError } from '../../shared/client-errors.ts';
import { EVENT_TYPES } from '../../shared/events.ts';
import { startHttp, type TestHttp } from '../support/http.ts';
import { newsOf } from '../support/webhooks.ts';

let http: TestHttp;
let accounts = 0;

beforeAll(async () => {
  http = await startHttp({ logLevel: 'trace' });
});
afterAll(() => http?.close());

const URL_OF_MINE = 'https://hooks.customer.test/in';

async function open() {
  const account = await http.openAccount();
  const client = new Driftstack({ apiKey: account.key, baseUrl: http.url });
  return { ...account, client };
}

const tell = (accountId: string) =>
  http.db.transaction((tx) =>
    recordEvent(tx, {
      accountId,
      news: newsOf('subscription.changed'),
      dedupeKey: `api-${++accounts}`,
      now: new Date(),
    }),
  );

const failure = async (calling: Promise<unknown>): Promise<DriftstackError> => {
  const error: unknown = await calling.then(
    () => null,
    (thrown: unknown) => thrown,
  );
  if (error instanceof DriftstackError) return error;
  throw error ?? new Error('The call succeeded');
};

const rest = (key: string, method: string, path: string, body?: unknown) =>
  fetch(`${http.url}${path}`, {
    method,
    headers: {
      authorization: `Bearer ${key}`,
      ...(body !== undefined && { 'content-type': 'application/json' }),
    },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  });

it('creates, reads, changes, rotates and deletes, with the secret in two answers only', async () => {
  const { client, key } = await open();
  const created = await client.webhooks.create({
    url: URL_OF_MINE,
    events: ['subscription.changed'],
    description: 'Mine',
  });
  const { secret, ...shown } = created;
  expect(secret).toMatch(/^whsec_[A-Z2-7]{32}$/);
  expect(shown).toMatchObject({ url: URL_OF_MINE, active: true, secret_prefix: secret.slice(0, 10) });
  expect(await client.webhooks.get(created.id)).toEqual(shown);
  expect((await client.webhooks.list()).data).toEqual([shown]);

  const paused = await client.webhooks.update(created.id, { active: false, description: null });
  expect(paused).toMatchObject({ active: false, description: null, disabled_at: expect.any(String) });
  const rotated = await client.webhooks.rotateSecret(created.id);
  expect(rotated.prev_secret_prefix).toBe(secret.slice(0, 10));
  await client.webhooks.delete(created.id);
  await client.webhooks.delete(created.id);
  expect((await client.webhooks.list()).data).toEqual([]);

  const { rows } = await http.db.pool.query<{ text: string }>(
    `select concat(e.*::text, a.*::text) as text from webhook_endpoint e
       join audit_entry a on a.account_id = e.account_id where e.id = $1`,
    [created.id.slice(4)],
  );
  const everywhere = [
    JSON.stringify(rows),
    ...http.lines,
    await (await rest(key, 'GET', '/v1/webhooks')).text(),
  ].join();
  for (const one of [secret, rotated.secret]) expect(everywhere).not.toContain(one.slice(12));

  const actions = (await client.auditLog.list()).data.map(({ action }) => action);
  expect(actions).toEqual([
    'webhook_endpoint.deleted',
    'webhook_endpoint.secret_rotated',
    'webhook_endpoint.updated',
    'webhook_endpoint.created',
    'api_key.minted',
    'account.created',
  ]);
});

it('answers over REST with 201, 200, 202 and 204', async () => {
  const { key } = await open();
  const created = await rest(key, 'POST', '/v1/webhooks', {
    url: URL_OF_MINE,
    events: ['trial_pack.expired'],
  });
  expect(created.status).toBe(201);
  // What was just created has an id.
  const { id } = (await created.json()) as { id: string };
  expect((await rest(key, 'GET', `/v1/webhooks/${id}`)).status).toBe(200);
  expect((await rest(key, 'PATCH', `/v1/webhooks/${id}`, { active: false })).status).toBe(200);
  const paused = await rest(key, 'POST', `/v1/webhooks/${id}/test`);
  expect(paused.status).toBe(400);
  expect(await paused.json()).toMatchObject({ code: 'webhook_endpoint_paused' });
  expect((await rest(key, 'PATCH', `/v1/webhooks/${id}`, { active: true })).status).toBe(200);
  expect((await rest(key, 'POST', `/v1/webhooks/${id}/test`)).status).toBe(202);
  expect((await rest(key, 'POST', `/v1/webhooks/${id}/replay`, { after: 0 })).status).toBe(202);
  const deleted = await rest(key, 'DELETE', `/v1/webhooks/${id}`);
  expect([deleted.status, await deleted.text()]).toEqual([204, '']);
  const refused = await rest(key, 'PUT', `/v1/webhooks/${id}`);
  expect([refused.status, refused.headers.get('allow')]).toEqual([405, 'DELETE, GET, HEAD, OPTIONS, PATCH']);
});

describe('input', () => {
  const inputs: [string, unknown, string][] = [
    ['an address inside', { url: 'https://10.0.0.1/', events: ['subscription.changed'] }, 'url'],
    ['no TLS', { url: 'http://hooks.customer.test/', events: ['subscription.changed'] }, 'url'],
    ['an unknown event', { url: URL_OF_MINE, events: ['subscription.exploded'] }, 'events.0'],
    ['a test as event', { url: URL_OF_MINE, events: ['test.ping'] }, 'events.0'],
    ['no event', { url: URL_OF_MINE, events: [] }, 'events'],
    [
      'an event twice',
      { url: URL_OF_MINE, events: ['subscription.changed', 'subscription.changed'] },
      'events',
    ],
    ['eleven events', { url: URL_OF_MINE, events: Array(11).fill('subscription.changed') }, 'events'],
    ['a secret of one’s own', { url: URL_OF_MINE, events: ['subscription.changed'], secret: 'x' }, 'secret'],
    [
      'a long note',
      { url: URL_OF_MINE, events: ['subscription.changed'], description: 'x'.repeat(257) },
      'description',
    ],
    ['nothing', {}, 'url'],
  ];
  it.each(inputs)('is refused with %s, naming the field', async (_what, body, field) => {
    const { key } = await open();
    const answer = await rest(key, 'POST', '/v1/webhooks', body);
    expect(answer.status).toBe(400);
    expect(await answer.json()).toMatchObject({
      type: 'https://errors.driftstack.dev/validation-failed',
      errors: expect.arrayContaining([expect.objectContaining({ field })]),
    });
  });

  it('is refused when a change holds nothing, or the id a second time', async () => {
    const { client, key } = await open();
    const { id } = await client.webhooks.create({ url: URL_OF_MINE, events: ['subscription.changed'] });
    for (const [body, field] of [
      [{}, ''],
      [{ id, description: 'x' }, 'id'],
    ] as const) {
      const answer = await rest(key, 'PATCH', `/v1/webhooks/${id}`, body);
      expect(answer.status).toBe(400);
      expect(await answer.json()).toMatchObject({ errors: [{ field }] });
    }
    expect((await rest(key, 'PATCH', `/v1/webhooks/${id}`)).status).toBe(400);
    expect((await failure(client.webhooks.update(id, { url: 'https://127.0.0.1/' }))).code).toBe(
      'webhook_url_not_allowed',
    );
  });

  it.each([
    'limit=0',
    'limit=101',
    'limit=x',
    'cursor=',
    'cursor=bm9wZQ',
    `cursor=${'x'.repeat(513)}`,
    'page=2',
  ])('is refused with ?%s, naming the parameter', async (query) => {
    const { key } = await open();
    const answer = await rest(key, 'GET', `/v1/webhooks?${query}`);
    expect(answer.status).toBe(400);
    expect(await answer.json()).toMatchObject({ errors: [{ field: query.split('=')[0] }] });
  });

  it.each(['after=-1', 'after=x', 'after=1.5', 'limit=101', 'cursor=x'])(
    'of the feed is refused with ?%s, naming the parameter',
    async (query) => {
      const { key } = await open();
      const answer = await rest(key, 'GET', `/v1/billing/events?${query}`);
      expect(answer.status).toBe(400);
      expect(await answer.json()).toMatchObject({ errors: [{ field: query.split('=')[0] }] });
    },
  );
});

it('takes the cursor of a list from its own account only', async () => {
  const [mine, theirs] = [await open(), await open()];
  for (const { client } of [mine, theirs])
    for (let i = 0; i < 3; i += 1)
      await client.webhooks.create({ url: URL_OF_MINE, events: ['trial_pack.expired'] });
  const { next_cursor } = await theirs.client.webhooks.list({ limit: 1 });
  const refused = await failure(mine.client.webhooks.list({ limit: 1, cursor: next_cursor ?? '' }));
  expect(refused).toMatchObject({ kind: 'bad-request', extensions: { errors: [{ field: 'cursor' }] } });
  expect((await failure(mine.client.auditLog.list({ cursor: next_cursor ?? '' }))).kind).toBe('bad-request');
});

it('allows ten endpoints, however many are asked for at once, and an eleventh once one is deleted', async () => {
  const { client } = await open();
  const create = () => client.webhooks.create({ url: URL_OF_MINE, events: ['subscription.changed'] });
  const outcomes = await Promise.allSettled(Array.from({ length: 14 }, create));
  expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(10);
  expect(await failure(create())).toMatchObject({ status: 409, code: 'too_many_webhook_endpoints' });
  const [first] = (await client.webhooks.list()).data;
  await client.webhooks.delete(first?.id ?? '');
  await create();
});

it('iterates events and deliveries to their ends', async () => {
  const { client, accountId } = await open();
  const { id } = await client.webhooks.create({ url: URL_OF_MINE, events: [...EVENT_TYPES] });
  for (let i = 0; i < 120; i += 1) await tell(accountId);
  const sequences: number[] = [];
  for await (const { sequence } of client.billing.events.iterate({ after: 5 })) sequences.push(sequence);
  expect(sequences).toEqual(Array.from({ length: 115 }, (_, at) => at + 6));
  const deliveries = new Set<string>();
  for await (const delivery of client.webhooks.iterateDeliveries(id, { limit: 50, status: 'pending' }))
    deliveries.add(delivery.id);
  expect(deliveries.size).toBe(120);
});

it('asks for the scopes that are documented', async () => {
  const reader = await http.openAccount(['read:webhooks']);
  const writer = await http.openAccount(['write', 'admin:billing', 'read:billing']);
  expect((await rest(reader.key, 'GET', '/v1/webhooks')).status).toBe(200);
  expect((await rest(reader.key, 'POST', '/v1/webhooks', {})).status).toBe(403);
  expect((await rest(reader.key, 'GET', '/v1/billing/events')).status).toBe(403);
  expect((await rest(writer.key, 'GET', '/v1/webhooks')).status).toBe(403);
  expect((await rest(writer.key, 'GET', '/v1/billing/events')).status).toBe(200);
});

/** Every route that takes an id, with a body it accepts; what is missing here fails the test. */
const BODIES: Readonly<Record<string, unknown>> = {
  'GET /v1/webhooks/{id}': undefined,
  'PATCH /v1/webhooks/{id}': { description: 'changed' },
  'DELETE /v1/webhooks/{id}': undefined,
  'POST /v1/webhooks/{id}/test': undefined,
  'POST /v1/webhooks/{id}/rotate-secret': undefined,
  'POST /v1/webhooks/{id}/replay': { after: 0 },
  'GET /v1/webhooks/{id}/deliveries': undefined,
  'POST /v1/webhook-deliveries/{id}/replay': undefined,
};

/** The routes as the document has them, which is made from the routers. */
const routes = Object.entries(buildOpenApi().paths ?? {}).flatMap(([path, item]) =>
  Object.keys(item).map((method) => `${method.toUpperCase()} ${path}`),
);

const prefixOf = (route: string) => (route.includes('webhook-deliveries') ? 'wdl' : 'whk');

describe('ids', () => {
  it('are tried on every route that takes one', () => {
    expect(routes.filter((route) => route.includes('{')).sort()).toEqual(Object.keys(BODIES).sort());
  });

  it.each(Object.keys(BODIES))(
    'of others and unknown ones are answered alike by %s, malformed ones with 400',
    async (route) => {
      const [mine, theirs] = [await open(), await open()];
      const idFor = async ({ client }: typeof mine): Promise<string> => {
        const { id } = await client.webhooks.create({ url: URL_OF_MINE, events: [...EVENT_TYPES] });
        return prefixOf(route) === 'wdl' ? (await client.webhooks.test(id)).id : id;
      };
      const [own, other] = [await idFor(mine), await idFor(theirs)];
      const before = await theirs.client.webhooks.list();
      const [method = '', path = ''] = route.split(' ');
      const ask = async (id: string) => {
        const answer = await rest(mine.key, method, path.replace('{id}', id), BODIES[route]);
        const text = await answer.text();
        // Nothing but the request's own id may differ.
        return { status: answer.status, body: text.replace(/req_[0-9a-f-]+/, 'req') };
      };

      const unknown = await ask(`${prefixOf(route)}_01890a5d-ac96-774b-bcce-b302099a8057`);
      expect(unknown.status).toBe(404);
      expect(await ask(other)).toEqual(unknown);
      for (const id of [
        'x',
        own.slice(4),
        own.replace(/^.../, 'acc'),
        `${own}0`,
        encodeURIComponent(`${own}\0`),
        "'%20or%201=1",
      ]) {
        const malformed = await ask(id);
        expect([id, malformed.status]).toEqual([id, 400]);
        expect(JSON.parse(malformed.body)).toMatchObject({ errors: [{ field: 'id' }] });
      }
      expect((await ask(own)).status).toBeLessThan(300);
      expect(await theirs.client.webhooks.list()).toEqual(before);
    },
  );
});
