import { Client } from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { append, auditDraft } from '../../server/audit/append.ts';
import { verifyChain } from '../../server/audit/verify.ts';
import { Account } from '../../server/database/entities/account.ts';
import { AuditEntry, Email } from '../../server/database/entities/journal.ts';
import { BillingEvent, WebhookDelivery } from '../../server/database/entities/webhooks.ts';
import { holdAccount } from '../../server/database/locks.ts';
import { run } from '../../server/database/statement.ts';
import { uuidv7 } from '../../server/database/uuid.ts';
import type { Draft } from '../../server/journal/drafts.ts';
import { LOOK_UP } from '../../server/journal/look-up.ts';
import { COLUMNS, WRITE } from '../../server/journal/rows.ts';
import { writeDown } from '../../server/journal/write-down.ts';
import { mailDraft } from '../../server/notify/outbox.ts';
import { eventDraft } from '../../server/webhooks/record-event.ts';
import type { EventType } from '../../shared/events.ts';
import { untilTrue } from '../support/service.ts';
import { NOW } from '../support/stripe.ts';
import { newsOf, openWebhookBench, type WebhookBench } from '../support/webhooks.ts';

let bench: WebhookBench;
let accountId: string;
let stranger: string;
beforeAll(async () => {
  bench = await openWebhookBench();
});
afterAll(() => bench?.close());
beforeEach(async () => {
  ({ accountId } = await bench.addAccount());
  stranger = (await bench.addAccount()).accountId;
});
afterEach(() => {
  vi.restoreAllMocks();
});

const entry = (of: string, name: string, payload: Record<string, unknown> = {}): Draft =>
  auditDraft({
    accountId: of,
    action: 'invoice.paid',
    targetResourceId: null,
    payload,
    actor: { type: 'system' },
    dedupeKey: `${accountId}:${name}`,
    now: NOW,
  });
const told = (of: string, name: string, type: EventType = 'subscription.changed'): Draft =>
  eventDraft({ accountId: of, news: newsOf(type), dedupeKey: `${accountId}:${name}`, now: NOW });
const mail = (of: string, name: string, to = 'a@example.com'): Draft => {
  const plan = { tier: 'api_builder', billingPeriod: 'monthly' } as const;
  const data = { plan, next: null };
  const naturalKey = `${accountId}:${name}`;
  return mailDraft({ accountId: of, to, template: 'subscription_resumed', data, naturalKey }, NOW);
};

/** Both accounts locked, in the order of ids, as several rows of one table always are. */
const write = (drafts: readonly Draft[]) =>
  bench.db.transaction(async (tx) => {
    for (const id of [accountId, stranger].sort()) await holdAccount(tx, id);
    return await writeDown(tx, drafts);
  });

async function rows<T extends object>(text: string, ...values: unknown[]): Promise<T[]> {
  return (await bench.db.pool.query<T>(text, values)).rows;
}
const auditOf = (id: string) =>
  rows<{ position: number; key: string }>(
    `select position::int, split_part(dedupe_key, ':', 2) as key from audit_entry
      where account_id = $1 and action = 'invoice.paid' order by position`,
    id,
  );
const feedOf = (id: string) =>
  rows<{ sequence: number; key: string }>(
    `select sequence::int, split_part(dedupe_key, ':', 2) as key from event where account_id = $1 order by sequence`,
    id,
  );
const deliveriesOf = (id: string) =>
  rows<{ position: number; endpoint: string; type: string }>(
    `select position::int, endpoint_id as endpoint, event_type as type from webhook_delivery
      where account_id = $1 order by position`,
    id,
  );

/** Its endpoints, in the order in which they were registered. */
async function register(of: string, ...wanted: EventType[][]): Promise<string[]> {
  const caller = { accountId: of, keyId: uuidv7(NOW), requestId: 'req_1' };
  for (const events of wanted)
    await bench.use.create(caller, { url: 'http://127.0.0.1:9/', events, description: null });
  const found = await rows<{ id: string }>(
    'select id from webhook_endpoint where account_id = $1 order by position',
    of,
  );
  return found.map(({ id }) => id);
}

describe('facts written down together', () => {
  it('are in their places, whatever their kinds and however many accounts they are of', async () => {
    const [both = '', ending = ''] = await register(
      accountId,
      ['subscription.changed', 'subscription.cancelled'],
      ['subscription.cancelled'],
    );
    await register(stranger, ['trial_pack.expired']);
    const drafts = [
      entry(accountId, 'a1', { z: 1, a: { gone: undefined, d: [1.5, 'ü', null] } }),
      told(accountId, 'e1'),
      entry(stranger, 'a2'),
      mail(accountId, 'm1'),
      told(accountId, 'e2', 'subscription.cancelled'),
      told(stranger, 'e3'),
      entry(accountId, 'a3'),
    ];
    expect([...(await write(drafts))]).toEqual(drafts);

    expect((await auditOf(accountId)).map(({ key }) => key)).toEqual(['a1', 'a3']);
    expect((await auditOf(stranger)).map(({ key }) => key)).toEqual(['a2']);
    for (const id of [accountId, stranger]) expect(await verifyChain(bench.db, id)).toBeNull();
    expect(await feedOf(accountId)).toEqual([
      { sequence: 1, key: 'e1' },
      { sequence: 2, key: 'e2' },
    ]);
    expect(await feedOf(stranger)).toEqual([{ sequence: 1, key: 'e3' }]);
    // The endpoints took positions 1 and 2.
    expect(await deliveriesOf(accountId)).toEqual([
      { position: 3, endpoint: both, type: 'subscription.changed' },
      { position: 4, endpoint: both, type: 'subscription.cancelled' },
      { position: 5, endpoint: ending, type: 'subscription.cancelled' },
    ]);
    expect(await deliveriesOf(stranger)).toEqual([]);
    const [ends] = await rows(
      'select event_sequence, webhook_position from account where id = $1',
      accountId,
    );
    expect(ends).toEqual({ event_sequence: '2', webhook_position: '5' });
    const dueOf = (id: string) =>
      rows<{ id: string }>(
        'select id, next_due_at = $2 as due from webhook_endpoint where account_id = $1 order by position',
        id,
        NOW,
      );
    expect(await dueOf(accountId)).toEqual([both, ending].map((id) => ({ id, due: true })));
    expect(await dueOf(stranger)).toEqual([{ id: expect.any(String), due: null }]);
    const mails = await rows(
      `select account_id, state, to_address, data->'plan'->>'tier' as tier, attempts, due_at is not null as due
         from email where natural_key = $1`,
      `${accountId}:m1`,
    );
    const sent = { account_id: accountId, to_address: 'a@example.com', tier: 'api_builder' };
    expect(mails).toEqual([{ ...sent, state: 'pending', attempts: 0, due: true }]);
  });

  it('go on from where those before them ended, in the same transaction as well', async () => {
    await bench.db.transaction(async (tx) => {
      await holdAccount(tx, accountId);
      await writeDown(tx, [entry(accountId, '1'), told(accountId, '1')]);
      await writeDown(tx, [entry(accountId, '2'), told(accountId, '1'), told(accountId, '2')]);
      await append(tx, {
        accountId,
        action: 'invoice.paid',
        targetResourceId: null,
        payload: {},
        actor: { type: 'system' },
        dedupeKey: `${accountId}:3`,
        now: NOW,
      });
    });
    expect((await auditOf(accountId)).map(({ key }) => key)).toEqual(['1', '2', '3']);
    expect((await feedOf(accountId)).map(({ sequence }) => sequence)).toEqual([1, 2]);
    expect(await verifyChain(bench.db, accountId)).toBeNull();
  });

  it('are written once where one is named twice, and the first counts', async () => {
    const drafts = [
      entry(accountId, 'x', { n: 1 }),
      entry(accountId, 'x', { n: 2 }),
      told(accountId, 'x', 'trial_pack.expired'),
      told(accountId, 'x'),
      mail(accountId, 'x', 'first@example.com'),
      mail(accountId, 'x', 'second@example.com'),
    ];
    expect([...(await write(drafts))]).toEqual([drafts[0], drafts[2], drafts[4]]);
    expect(
      await rows('select payload from audit_entry where dedupe_key = $1', `${accountId}:x`),
    ).toHaveLength(1);
    expect(await feedOf(accountId)).toEqual([{ sequence: 1, key: 'x' }]);
    const [sent] = await rows('select to_address from email where natural_key = $1', `${accountId}:x`);
    expect(sent).toEqual({ to_address: 'first@example.com' });
    expect((await write(drafts)).size).toBe(0);
    expect(await verifyChain(bench.db, accountId)).toBeNull();
  });

  it('are left out where another account has told of them, and leave no gap', async () => {
    await write([entry(stranger, 'theirs'), told(stranger, 'theirs'), mail(stranger, 'theirs')]);
    const drafts = ['1', 'theirs', '2'].flatMap((name) => [
      entry(accountId, name),
      told(accountId, name),
      mail(accountId, name),
    ]);
    expect((await write(drafts)).size).toBe(6);
    expect((await feedOf(accountId)).map(({ sequence }) => sequence)).toEqual([1, 2]);
    expect(await verifyChain(bench.db, accountId)).toBeNull();
  });

  it('are told to the workers when they are there, and not when they were taken back', async () => {
    await register(accountId, ['subscription.changed']);
    const listener = new Client({ connectionString: bench.db.url });
    await listener.connect();
    const heard: string[] = [];
    listener.on('notification', ({ payload }) => heard.push(payload ?? ''));
    try {
      await listener.query('listen driftstack_due');
      const failing = bench.db.transaction(async (tx) => {
        await holdAccount(tx, accountId);
        await writeDown(tx, [mail(accountId, 'no')]);
        throw new Error('changed our mind');
      });
      await expect(failing).rejects.toThrow('changed our mind');
      await write([entry(accountId, 'quiet')]);
      await write([mail(accountId, '1'), mail(accountId, '2')]);
      await untilTrue(() => heard.length > 0);
      await write([told(accountId, '1')]);
      await untilTrue(() => heard.length > 1);
      expect(heard).toEqual(['email', 'endpoint']);
    } finally {
      await listener.end();
    }
  });
});

describe('what stands in the way of a second end of a log', () => {
  const conflict = async (draft: (of: string) => Draft) => {
    const { promise: told, resolve: tell } = Promise.withResolvers<void>();
    const { promise: over, resolve: end } = Promise.withResolvers<void>();
    const first = bench.db.transaction(async (tx) => {
      await holdAccount(tx, stranger);
      await writeDown(tx, [draft(stranger)]);
      tell();
      await over;
    });
    await told;
    const second = bench.db.transaction(async (tx) => {
      await holdAccount(tx, accountId);
      return await writeDown(tx, [draft(accountId), entry(accountId, 'beside it')]);
    });
    const outcome = second.then(
      (fresh) => fresh.size,
      (error: unknown) => error,
    );
    await untilTrue(async () => {
      const waiting = await rows(
        "select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()",
      );
      return waiting.length > 0;
    });
    end();
    await first;
    return await outcome;
  };

  it.each([
    ['audit_entry_dedupe_key_unique', (of: string) => entry(of, 'same')],
    ['event_dedupe_key_unique', (of: string) => told(of, 'same')],
  ])(
    '%s refuses the whole where two accounts tell of one fact at once; tried again, it is known',
    async (constraint, draft) => {
      expect(await conflict(draft)).toMatchObject({ code: '23505', constraint });
      expect(await auditOf(accountId)).toEqual([]);
      expect((await write([draft(accountId), entry(accountId, 'beside it')])).size).toBe(1);
      expect(await verifyChain(bench.db, accountId)).toBeNull();
    },
  );

  it('a mail of both is sent once, and what is beside it is written', async () => {
    expect(await conflict((of) => mail(of, 'same'))).toBe(1);
    expect((await auditOf(accountId)).map(({ key }) => key)).toEqual(['beside it']);
  });

  it('an account that is not there is named', async () => {
    const nobody = uuidv7(NOW);
    const locked = bench.db.transaction((tx) => holdAccount(tx, nobody));
    await expect(locked).rejects.toThrow(nobody);
    const written = bench.db.transaction((tx) => writeDown(tx, [entry(nobody, 'x')]));
    await expect(written).rejects.toThrow(nobody);
  });
});

describe('the statements', () => {
  /** What we leave to the defaults of the columns, or to whoever changes the row later. */
  const LEFT_ALONE = {
    audit_entry: [],
    event: [],
    webhook_delivery: [
      'attempts',
      'last_attempt_at',
      'response_status',
      'response_excerpt',
      'error',
      'duration_ms',
      'delivered_at',
    ],
    email: [
      'attempts',
      'provider_id',
      'first_attempt_at',
      'sent_at',
      'error',
      'due_at',
      'lease',
      'leased_until',
      'batch_id',
    ],
    account: [
      'email',
      'stripe_customer_id',
      'stripe_email',
      'stripe_customer_generation',
      'receipt_emails',
      'tier_change_emails',
      'renewal_emails',
      'created_at',
    ],
  } as const;

  it.each([
    ['audit_entry', AuditEntry],
    ['event', BillingEvent],
    ['webhook_delivery', WebhookDelivery],
    ['email', Email],
    ['account', Account],
  ] as const)('know every column of %s, and its type', (table, entity) => {
    const columns = columnsOf(entity);
    const known = new Map<string, string | undefined>(Object.entries(COLUMNS[table]));
    for (const name of LEFT_ALONE[table]) known.set(name, columns.get(name));
    expect(known).toEqual(columns);
  });

  it('look every switch of notices up', () => {
    const switches = [...columnsOf(Account).keys()].filter((name) => name.endsWith('_emails'));
    expect(switches.length).toBeGreaterThan(0);
    for (const name of switches) expect(LOOK_UP.text).toContain(`a.${name} as`);
  });

  /** As the metadata of the entities has them: without precision, and every kind of text as text. */
  function columnsOf({ meta: { className } }: { meta: { className: string } }): Map<string, string> {
    const { props } = bench.db.orm.getMetadata().getByClassName(className);
    return new Map(
      props.map(({ fieldNames: [name = ''], columnTypes: [type = ''] }) => [
        name,
        type.replace(/\(\d\)$/, '').replace(/^varchar.*/, 'text'),
      ]),
    );
  }

  type Node = { 'Node Type': string; 'Index Name'?: string; Plans?: Node[] };
  const planOf = async (text: string): Promise<Node[]> => {
    const client = await bench.db.pool.connect();
    try {
      await client.query('begin');
      await client.query('set local enable_seqscan = off');
      const { rows: found } = await client.query<{ 'QUERY PLAN': [{ Plan: Node }] }>(
        `explain (generic_plan, format json) ${text}`,
      );
      const all = (node: Node): Node[] => [node, ...(node.Plans ?? []).flatMap(all)];
      return (found[0]?.['QUERY PLAN'] ?? []).flatMap(({ Plan }) => all(Plan));
    } finally {
      await client.query('rollback');
      client.release();
    }
  };

  it('find keys, accounts and endpoints by their indexes, whatever the tables hold', async () => {
    const lookingUp = await planOf(LOOK_UP.text);
    const used = (nodes: Node[]) => nodes.flatMap((node) => node['Index Name'] ?? []).sort();
    expect(used(lookingUp)).toEqual([
      'account_pkey',
      'audit_entry_dedupe_key_unique',
      'email_natural_key_unique',
      'event_dedupe_key_unique',
      'webhook_endpoint_account_id_index',
    ]);
    const writing = await planOf(WRITE.text);
    expect(new Set(used(writing))).toEqual(new Set(['account_pkey', 'webhook_endpoint_pkey']));
    for (const nodes of [lookingUp, writing])
      expect(nodes.filter((node) => node['Node Type'] === 'Seq Scan')).toEqual([]);
  });

  it('lock endpoints in the order of their ids', async () => {
    const wanted: EventType[] = ['subscription.changed'];
    const ids = (await register(accountId, wanted, wanted, wanted)).sort();
    const other = await bench.db.pool.connect();
    try {
      await other.query('begin');
      await other.query('select 1 from webhook_endpoint where id = $1 for no key update', [ids[1]]);
      const writing = write([told(accountId, 'x')]);
      await untilTrue(async () => {
        const waiting = await rows(
          "select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()",
        );
        return waiting.length > 0;
      });
      const free = await rows<{ id: string }>(
        'select id from webhook_endpoint where id = any($1) order by id for no key update skip locked',
        ids,
      );
      expect(free.map(({ id }) => id)).toEqual([ids[2]]);
      await other.query('rollback');
      expect((await writing).size).toBe(1);
    } finally {
      other.release();
    }
  });

  it('are planned once, and not for each call', async () => {
    await register(accountId, ['subscription.changed']);
    await bench.db.transaction(async (tx) => {
      await holdAccount(tx, accountId);
      for (let n = 0; n < 12; n += 1)
        await writeDown(tx, [entry(accountId, `${n}`), told(accountId, `${n}`), mail(accountId, `${n}`)]);
      // As many as PostgreSQL plans with the values before it compares what that brings.
      const before = await run<{ name: string; custom: number }>(tx, PLANNED, []);
      for (let n = 12; n < 20; n += 1) await writeDown(tx, [entry(accountId, `${n}`)]);
      expect(await run(tx, PLANNED, [])).toEqual(before);
      expect(before.map(({ name }) => name)).toEqual(['look-up-facts', 'write-facts']);
    });
  });
  const PLANNED = {
    name: 'test-planned',
    text: `select name, custom_plans::int as custom from pg_prepared_statements
            where name in ('look-up-facts', 'write-facts') order by name`,
  };

  it('are two for whatever there is to write, and one where all of it is known', async () => {
    await register(accountId, ['subscription.changed'], ['subscription.changed']);
    const drafts = ['1', '2', '3'].flatMap((name) => [entry(accountId, name), told(accountId, name)]);
    const spent = async (): Promise<string[]> =>
      bench.db.transaction(async (tx) => {
        await holdAccount(tx, accountId);
        const queries = vi.spyOn(Client.prototype, 'query');
        await holdAccount(tx, accountId);
        await writeDown(tx, drafts);
        const asked = queries.mock.calls.map(([query]) => String(Reflect.get(Object(query), 'name')));
        queries.mockRestore();
        return asked;
      });
    expect(await spent()).toEqual(['look-up-facts', 'write-facts']);
    expect(await spent()).toEqual(['look-up-facts']);
  });

  it('are prepared once, run in the transaction, and hold no values', async () => {
    const statement = { name: 'test-statement', text: 'select $1::text as value' };
    await bench.db.transaction(async (tx) => {
      expect(await run(tx, statement, ['one'])).toEqual([{ value: 'one' }]);
      expect(await run(tx, statement, ['two'])).toEqual([{ value: 'two' }]);
      const prepared = await tx.execute(
        "select statement from pg_prepared_statements where name = 'test-statement'",
      );
      expect(prepared).toEqual([{ statement: statement.text }]);
      const [here] = await run<{ id: string }>(
        tx,
        { name: 'test-transaction', text: 'select pg_current_xact_id()::text as id' },
        [],
      );
      expect(await tx.execute('select pg_current_xact_id()::text as id')).toEqual([here]);
    });
    await expect(run(bench.db.orm.em.fork(), statement, ['x'])).rejects.toThrow('outside a transaction');
  });
});
