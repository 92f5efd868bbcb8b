import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { CHANNEL } from '../../server/database/due.ts';
import { StripeEvent } from '../../server/database/entities/journal.ts';
import { createEventStore, type EventStore, INSERT } from '../../server/stripe/inbox/event-store.ts';
import { takeIn } from '../../server/stripe/inbox/intake.ts';
import { ProblemError } from '../../shared/errors.ts';
import { formatId } from '../../shared/ids.ts';
import { untilTrue } from '../support/service.ts';
import { reached } from '../support/states.ts';
import {
  addCustomer,
  type Bench,
  eventBody,
  NOW,
  openBench,
  sign,
  WEBHOOK_SECRET,
} from '../support/stripe.ts';

let bench: Bench;
let events: EventStore;
beforeAll(async () => {
  bench = await openBench();
  events = createEventStore(bench.db);
});
afterAll(() => bench.close());

const take = (body: string | Buffer, signature: string | undefined) =>
  takeIn(
    { events, clock: bench.clock, secrets: ['whsec_new', WEBHOOK_SECRET], livemode: false },
    { rawBody: Buffer.from(body), signature },
  );
const stored = () => bench.db.orm.em.fork().find(StripeEvent, {});
const due = async (id: string): Promise<{ account_id: string | null; due: boolean } | undefined> => {
  const { rows } = await bench.db.pool.query<{ account_id: string | null; due: boolean }>(
    'select account_id, due_at is not null as due from stripe_event where id = $1',
    [id],
  );
  return rows[0];
};
const wanted = async (accountId: string): Promise<{ wanted: number; due: boolean } | undefined> => {
  const { rows } = await bench.db.pool.query<{ wanted: number; due: boolean }>(
    'select wanted::int, due_at is not null as due from account_sync where account_id = $1',
    [accountId],
  );
  return rows[0];
};

describe('takeIn', () => {
  it('stores the event byte for byte and once, due itself, however often it is delivered', async () => {
    const { id, body } = eventBody('invoice.paid', { id: 'in_1', object: 'invoice', customer: 'cus_1' });
    const spaced = body.replace('{', '{  ');
    const outcomes = await Promise.all(Array.from({ length: 10 }, () => take(spaced, sign(spaced))));
    expect(outcomes.filter((outcome) => outcome === 'stored')).toHaveLength(1);
    expect(outcomes.filter((outcome) => outcome === 'duplicate')).toHaveLength(9);
    const event = (await stored()).find((one) => one.id === id);
    expect(event).toMatchObject({
      type: 'invoice.paid',
      objectId: 'in_1',
      customerId: 'cus_1',
      state: 'received',
    });
    expect(Buffer.from(event?.raw ?? '').toString()).toBe(spaced);
    expect(await due(id)).toEqual({ account_id: null, due: true });
  });

  it('keeps the customer of a customer event, and of an expanded reference', async () => {
    const deleted = eventBody('customer.deleted', { id: 'cus_gone', object: 'customer' });
    const expanded = eventBody('invoice.paid', {
      object: 'invoice',
      customer: { id: 'cus_2', object: 'customer' },
    });
    for (const { body } of [deleted, expanded]) await take(body, sign(body));
    const events = await stored();
    expect(events.find(({ id }) => id === deleted.id)?.customerId).toBe('cus_gone');
    expect(events.find(({ id }) => id === expanded.id)?.customerId).toBe('cus_2');
  });

  it.each([
    ['of the other mode', 'invoice.paid', { livemode: true }],
    ['of a connected account', 'invoice.paid', { account: 'acct_1' }],
    ['of a type we do not handle', 'invoice.created', {}],
  ])('stores an event %s as ignored, due for nobody', async (_, type, members) => {
    const { id, body } = eventBody(type, { id: 'in_2', object: 'invoice' }, members);
    expect(await take(body, sign(body))).toBe('ignored');
    const event = (await stored()).find((one) => one.id === id);
    expect(event).toMatchObject({ state: 'ignored', error: expect.any(String) });
    expect(await due(id)).toEqual({ account_id: null, due: false });
  });

  const { body } = eventBody('invoice.paid', { id: 'in_3', object: 'invoice' });
  const minutes = (n: number) => new Date(NOW.getTime() + n * 60_000);
  it.each([
    ['a missing signature', body, undefined],
    ['a wrong signature', body, sign(body, NOW, 'whsec_wrong')],
    ['a stale signature', body, sign(body, minutes(-6))],
    ['a signature from the future', body, sign(body, minutes(6))],
    ['a doubled signature header', body, `${sign(body)}, ${sign(body)}`],
    ['an altered body', body.replace('in_3', 'in_4'), sign(body)],
    ...['null', '[]', '"text"', '7', '{}', '{', '', '{"object":"event"}'].map(
      (text): [string, string, string] => [`a signed ${text || 'nothing'}`, text, sign(text)],
    ),
    ...[
      body.replace('"evt_', '"evil_'),
      body.replace('"livemode":false', '"livemode":"false"'),
      body.replace('"invoice.paid"', '"invoice.\\u0000paid"'),
      body.replace(/"data":.*/, '"data":null}'),
    ].map((text): [string, string, string] => [
      `a signed event with a wrong member: ${text}`,
      text,
      sign(text),
    ]),
  ])('answers 400 to %s and stores nothing', async (_, text, signature) => {
    const before = (await stored()).length;
    const error = await take(text, signature).catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(ProblemError);
    expect(error).toMatchObject({ status: 400 });
    expect(await stored()).toHaveLength(before);
  });

  it('makes the account due that has the customer, with each event once and in the same commit', async () => {
    const { accountId, customer } = await addCustomer(bench);
    const about = () =>
      eventBody('customer.subscription.updated', { id: 'sub_1', object: 'subscription', customer });
    const [one, other] = [about(), about()];
    await take(one.body, sign(one.body));
    expect(await due(one.id)).toEqual({ account_id: accountId, due: false });
    expect(await wanted(accountId)).toEqual({ wanted: 1, due: true });
    await take(one.body, sign(one.body));
    expect(await wanted(accountId)).toEqual({ wanted: 1, due: true });
    await bench.db.pool.query("update account_sync set due_at = now() + interval '1 hour'");
    await take(other.body, sign(other.body));
    const { rows } = await bench.db.pool.query(
      'select 1 from account_sync where account_id = $1 and due_at <= now()',
      [accountId],
    );
    expect(rows).toHaveLength(1);
    expect(await wanted(accountId)).toEqual({ wanted: 2, due: true });
  });

  it('makes the account due that had a customer whom Stripe has deleted', async () => {
    const { accountId } = await addCustomer(bench);
    await bench.db.pool.query('insert into former_stripe_customer values ($1, $2, now())', [
      'cus_before',
      accountId,
    ]);
    const { id, body } = eventBody('charge.refunded', {
      id: 'ch_1',
      object: 'charge',
      customer: 'cus_before',
    });
    await take(body, sign(body));
    expect(await due(id)).toEqual({ account_id: accountId, due: false });
    expect(await wanted(accountId)).toEqual({ wanted: 1, due: true });
  });

  it('leaves an event that names another account than its customer’s, or none that is, to whoever judges it', async () => {
    const { accountId, customer } = await addCustomer(bench);
    const other = await addCustomer(bench);
    for (const reference of [formatId('acc', other.accountId), 'acc_of_somebody']) {
      const named = { id: 'cs_1', object: 'checkout.session', customer, client_reference_id: reference };
      const { id, body } = eventBody('checkout.session.completed', named);
      await take(body, sign(body));
      expect(await due(id)).toEqual({ account_id: null, due: true });
    }
    expect(await wanted(accountId)).toBeUndefined();
    const own = {
      id: 'cs_1',
      object: 'checkout.session',
      customer,
      client_reference_id: formatId('acc', accountId),
    };
    const { id, body } = eventBody('checkout.session.completed', own);
    await take(body, sign(body));
    expect(await due(id)).toEqual({ account_id: accountId, due: false });
  });

  it('writes many that come at once in few statements, and answers each for itself', async () => {
    const queries = vi.spyOn(bench.db.pool, 'query');
    const bodies = Array.from({ length: 150 }, (_, at) =>
      eventBody('invoice.paid', { id: `in_${at}`, object: 'invoice' }),
    );
    const twice = [...bodies, ...bodies.slice(0, 20)];
    const outcomes = await Promise.all(twice.map(({ body }) => take(body, sign(body))));
    expect(queries.mock.calls.length).toBeLessThanOrEqual(4);
    queries.mockRestore();
    expect(outcomes.filter((outcome) => outcome === 'stored')).toHaveLength(150);
    expect(outcomes.filter((outcome) => outcome === 'duplicate')).toHaveLength(20);
    const { rows } = await bench.db.pool.query('select 1 from stripe_event where id = any($1)', [
      bodies.map(({ id }) => id),
    ]);
    expect(rows).toHaveLength(150);
  });

  it('lets a row that the database refuses cost only itself', async () => {
    await bench.db.pool.query(
      "alter table stripe_event add constraint no_seven check (object_id <> 'in_seven')",
    );
    try {
      // Two go alone at once; the others wait for a place and go as one group, the bad one among them.
      const bodies = ['in_four', 'in_five', 'in_six', 'in_seven', 'in_eight'].map((id) =>
        eventBody('invoice.paid', { id, object: 'invoice' }),
      );
      const outcomes = await Promise.allSettled(bodies.map(({ body }) => take(body, sign(body))));
      expect(outcomes.map(({ status }) => status)).toEqual([
        'fulfilled',
        'fulfilled',
        'fulfilled',
        'rejected',
        'fulfilled',
      ]);
      reached('one of those of one statement is refused by the database');
    } finally {
      await bench.db.pool.query('alter table stripe_event drop constraint no_seven');
    }
  });

  it('tells workers at the commit which kind is due', async () => {
    const { customer } = await addCustomer(bench);
    const client = await bench.db.pool.connect();
    const told: (string | undefined)[] = [];
    try {
      client.on('notification', ({ payload }) => told.push(payload));
      await client.query(`listen ${CHANNEL}`);
      for (const one of [customer, 'cus_of_nobody']) {
        const { body } = eventBody('invoice.paid', { id: 'in_1', object: 'invoice', customer: one });
        await take(body, sign(body));
      }
      await untilTrue(async () => {
        await client.query('select 1');
        return told.length === 2;
      });
      expect(told).toEqual(['account', 'stripe_event']);
    } finally {
      client.release(true);
    }
  });

  it('names the same columns as the table has', () => {
    const known = bench.db.orm
      .getMetadata()
      .get(StripeEvent)
      .comparableProps.flatMap(({ fieldNames }) => fieldNames);
    // What is taken by a lease later is nothing at first.
    const left = known.filter((column) => !['lease', 'leased_until'].includes(column));
    const inserted = /insert into stripe_event \(([^)]*)\)/
      .exec(INSERT)?.[1]
      ?.split(',')
      .map((name) => name.trim());
    expect(inserted?.toSorted()).toEqual([...new Set(['id', ...left])].toSorted());
  });
});
