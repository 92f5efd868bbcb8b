import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { buildOpenApi } from '../../server/api/openapi.ts';
import { append } from '../../server/audit/append.ts';
import { reportUse } from '../../server/credit/report-use.ts';
import { uuidv7 } from '../../server/database/uuid.ts';
import { RATE_LIMITS } from '../../server/http/limits.ts';
import { recordEvent } from '../../server/webhooks/record-event.ts';
import { Driftstack } from '../../shared/client.ts';
import { EVENT_TYPES } from '../../shared/events.ts';
import { tellPack } from '../support/credit.ts';
import { startHttp, type TestHttp } from '../support/http.ts';
import { untilTrue } from '../support/service.ts';
import { newsOf } from '../support/webhooks.ts';

let http: TestHttp;

beforeAll(async () => {
  const patient = { capacity: 1e6, refillPerSecond: 1e6 };
  http = await startHttp({ limits: { ...RATE_LIMITS, global: { free: patient } } });
});
afterAll(() => http?.close());

type Account = { accountId: string; key: string; client: Driftstack; endpointId: string };
type Listed = {
  /** Where the list is read; it may name what the account has. */
  readonly path: (account: Pick<Account, 'endpointId'>) => string;
  readonly rowsBefore: number;
  /** Adds a row to the list. */
  write(account: Account): Promise<unknown>;
};

const clock = { now: () => new Date() };
const unique = () => uuidv7(clock.now());
const url = 'https://hooks.customer.test/in';
const WRITERS = 2;

const tell = ({ accountId }: Account) =>
  http.db.transaction((tx) =>
    recordEvent(tx, {
      accountId,
      news: newsOf('subscription.changed'),
      dedupeKey: unique(),
      now: clock.now(),
    }),
  );
const note = ({ accountId }: Account) =>
  http.db.transaction((tx) =>
    append(tx, {
      accountId,
      action: 'invoice.paid',
      targetResourceId: null,
      payload: {},
      actor: { type: 'system' },
      dedupeKey: unique(),
      now: clock.now(),
    }),
  );
const spend = ({ accountId }: Account) =>
  reportUse(
    { db: http.db, clock },
    { accountId, reportId: unique(), sessionId: 's', seconds: 1, usedAt: clock.now() },
  );
const register = ({ client }: Account) => client.webhooks.create({ url, events: ['trial_pack.expired'] });

/** Every list of the API, and the ways to narrow it; what is missing here fails the test. */
const LISTS: Readonly<Record<string, readonly Listed[]>> = {
  '/v1/account/audit-log': [
    { path: () => '/v1/account/audit-log?', rowsBefore: 20, write: note },
    { path: () => '/v1/account/audit-log?action=invoice.paid&', rowsBefore: 20, write: note },
    { path: () => '/v1/account/audit-log?since=2026-01-01T00:00:00Z&', rowsBefore: 20, write: note },
  ],
  '/v1/billing/events': [{ path: () => '/v1/billing/events?', rowsBefore: 20, write: tell }],
  '/v1/billing/trial-pack/usage': [
    { path: () => '/v1/billing/trial-pack/usage?', rowsBefore: 20, write: spend },
  ],
  '/v1/webhooks': [
    {
      path: () => '/v1/webhooks?',
      // One is there from the start, and ten are the most: what the writers add they delete again.
      rowsBefore: 10 - 1 - WRITERS,
      async write(account) {
        const { id } = await register(account);
        await account.client.webhooks.delete(id);
      },
    },
  ],
  '/v1/webhooks/{id}/deliveries': [
    { path: ({ endpointId }) => `/v1/webhooks/${endpointId}/deliveries?`, rowsBefore: 20, write: tell },
    {
      path: ({ endpointId }) => `/v1/webhooks/${endpointId}/deliveries?status=pending&`,
      rowsBefore: 20,
      write: tell,
    },
  ],
};

it('every route of the API that takes a limit is tried here', () => {
  const lists = Object.entries(buildOpenApi().paths ?? {}).flatMap(([path, item]) =>
    item.get?.parameters?.some((one) => 'name' in one && one.name === 'limit') ? [path] : [],
  );
  expect(Object.keys(LISTS).sort()).toEqual(lists.sort());
});

describe.each(
  Object.values(LISTS)
    .flat()
    .map((list) => ({ list, at: list.path({ endpointId: '{id}' }) })),
)('$at paged through while rows are written', ({ list }) => {
  it.each([1, 3])('shows every row that was there, and none twice, %i at a time', async (limit) => {
    const account = await openAccount();
    const before = await fill(account, list);
    const path = list.path(account);
    let stopping = false;
    let written = 0;
    const writers = Array.from({ length: WRITERS }, async () => {
      while (!stopping) {
        await list.write(account);
        written += 1;
      }
    });
    const rows: string[] = [];
    try {
      for (let next: string | null = ''; next !== null && rows.length < 100; ) {
        const page = await read(account, `${path}limit=${limit}${next}`);
        rows.push(...page.ids);
        next = page.next;
        const seen = written;
        // A feed never ends as long as it is written to: once what was there has been read, so be it.
        if (page.isFeed && rows.length >= before.length) stopping = true;
        else await untilTrue(() => written > seen);
      }
    } finally {
      stopping = true;
      await Promise.all(writers);
    }
    expect(written).toBeGreaterThan(2);
    expect(new Set(rows).size).toBe(rows.length);
    // Only what was there, in the order in which it was: what came after is on a page before the first.
    expect(rows.filter((id) => before.includes(id))).toEqual(before);
  });
});

async function openAccount(): Promise<Account> {
  const { accountId, key } = await http.openAccount();
  const client = new Driftstack({ apiKey: key, baseUrl: http.url });
  const { id: endpointId } = await client.webhooks.create({ url, events: [...EVENT_TYPES] });
  await tellPack(http.db, accountId);
  return { accountId, key, client, endpointId };
}

/** Writes what is to be there before, and answers all of it in the order of the list. */
async function fill(account: Account, list: Listed): Promise<string[]> {
  const write = list.path(account).startsWith('/v1/webhooks?') ? register : list.write;
  for (let i = 0; i < list.rowsBefore; i += 1) await write(account);
  const { ids } = await read(account, `${list.path(account)}limit=100`);
  expect(ids.length).toBeGreaterThanOrEqual(list.rowsBefore);
  return ids;
}

const pageSchema = z.object({
  data: z.array(z.object({ id: z.string(), sequence: z.int().optional() })),
  next_cursor: z.string().nullish(),
  has_more: z.boolean().optional(),
});

/** One page over REST, and what asks for the next one. */
async function read({ key }: Account, path: string) {
  const answer = await http.call(path, { key });
  const { data, next_cursor, has_more } = pageSchema.parse(await answer.json());
  const isFeed = has_more !== undefined;
  const next = isFeed
    ? has_more && `&after=${data.at(-1)?.sequence}`
    : next_cursor && `&cursor=${encodeURIComponent(next_cursor)}`;
  return { ids: data.map(({ id }) => id), next: next || null, isFeed };
}
