import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { StripeEvent } from '../../server/database/entities/journal.ts';
import { saveTurn, takeTurn } from '../../server/database/recurring.ts';
import { EVENT_TYPES } from '../../server/stripe/events.ts';
import { catchUp } from '../../server/stripe/repair/catch-up.ts';
import {
  addCustomer,
  type Bench,
  deliver,
  eventBody,
  NOW,
  openBench,
  subscription,
} from '../support/stripe.ts';

let bench: Bench;
beforeEach(async () => {
  bench = await openBench();
});
afterEach(() => bench.close());

const MINUTE_MS = 60_000;
const run = (db = bench.db) => catchUp({ ...bench, db, livemode: false });
const stored = async () =>
  (await bench.db.orm.em.fork().find(StripeEvent, {}, { orderBy: { id: 'asc' } })).map(({ id }) => id);
/** Those that are due, by themselves or with their account. */
const due = async () => {
  const { rows } = await bench.db.pool.query<{ id: string }>(
    `select e.id from stripe_event e left join account_sync y on y.account_id = e.account_id
where coalesce(y.due_at, e.due_at) is not null order by 1`,
  );
  return rows.map(({ id }) => id);
};
const later = (ms: number) => {
  bench.time.now = new Date(bench.time.now.getTime() + ms);
};
const created = (at: Date) => ({ created: Math.floor(at.getTime() / 1000) });

/** Events that Stripe has, answered page by page as `events.list` does: newest first, filtered by time and type. */
function stripeHolds(events: { id: string; type: string; created: number }[], pageSize = 100) {
  const asked: URLSearchParams[] = [];
  bench.stripe.interfere(({ path }) => {
    const url = new URL(path, 'http://stripe.test');
    if (url.pathname !== '/v1/events') return undefined;
    asked.push(url.searchParams);
    const types = typesIn(url.searchParams);
    if (types.length > 20) return { kind: 'answer', status: 400, body: TOO_MANY };
    const since = Number(url.searchParams.get('created[gte]'));
    const matching = events
      .filter((event) => event.created >= since && types.includes(event.type))
      .toSorted((a, b) => b.created - a.created);
    const after = url.searchParams.get('starting_after');
    if (after !== null && !events.some(({ id }) => id === after)) {
      const error = { type: 'invalid_request_error', code: 'resource_missing', param: 'starting_after' };
      return { kind: 'answer', status: 400, body: JSON.stringify({ error }) };
    }
    const rest = matching.slice(after === null ? 0 : matching.findIndex(({ id }) => id === after) + 1);
    const body = JSON.stringify({
      object: 'list',
      data: rest.slice(0, pageSize),
      has_more: rest.length > pageSize,
    });
    return { kind: 'answer', status: 200, body };
  });
  return asked;
}

const typesIn = (query: URLSearchParams): string[] =>
  [...query].flatMap(([name, value]) => (name.startsWith('types[') ? [value] : []));
const TOO_MANY = JSON.stringify({ error: { type: 'invalid_request_error', message: 'At most 20 types.' } });
/** Those that asked for the first list of types. */
const ofTheFirst = (asked: URLSearchParams[]) =>
  asked.filter((query) => typesIn(query).includes(EVENT_TYPES[0]));

const event = (minutesAfterNow: number, type: string = 'customer.subscription.updated') => {
  const at = new Date(NOW.getTime() + minutesAfterNow * MINUTE_MS);
  const { body } = eventBody(type, { id: 'sub_1', object: 'subscription', customer: 'cus_1' }, created(at));
  const parsed: { id: string; type: string; created: number } = JSON.parse(body);
  return parsed;
};

describe('the catch-up', () => {
  it('stores what never arrived, with one job each, and counts it once', async () => {
    stripeHolds([]);
    expect(await run()).toBe(0);
    const missed = [event(1), event(2)];
    const { customer } = await addCustomer(bench);
    const sub = bench.stripe.put(subscription({ customer }));
    const arrived = await deliver(bench, 'customer.subscription.created', sub, created(NOW));
    stripeHolds([...missed, { ...event(0, 'customer.subscription.created'), id: arrived }]);
    later(10 * MINUTE_MS);
    expect(await run()).toBe(2);
    later(MINUTE_MS);
    expect(await run()).toBe(0);
    expect(await stored()).toEqual([arrived, ...missed.map(({ id }) => id)].sort());
    expect(await due()).toEqual(await stored());
  });

  it('asks for all our types, twenty at a time, and for the minutes before again, so that a late event is not missed', async () => {
    const first = event(10);
    const asked = stripeHolds([first]);
    await run();
    later(20 * MINUTE_MS);
    await run();
    const late = event(6);
    stripeHolds([first, late]);
    later(MINUTE_MS);
    expect(await run()).toBe(1);
    expect(await stored()).toContain(late.id);
    const lists = asked.slice(0, 2).map(typesIn);
    expect(lists.flat()).toEqual([...EVENT_TYPES]);
    for (const types of lists) expect(types.length).toBeLessThanOrEqual(20);
  });

  it('leaves an event of this moment to the door, and takes it when the door never sees it', async () => {
    const fresh = event(0);
    stripeHolds([fresh]);
    expect(await run()).toBe(0);
    expect(await stored()).toEqual([]);
    later(MINUTE_MS);
    expect(await run()).toBe(1);
  });

  it('is done by one of several processes, once a minute', async () => {
    const asked = stripeHolds([event(-1)]);
    const other = await bench.another();
    const runs = await Promise.all([run(), run(other), run(), run(other)]);
    expect(runs.filter((missed) => missed !== null)).toEqual([1]);
    expect(ofTheFirst(asked)).toHaveLength(1);
    later(MINUTE_MS - 1);
    expect(await run()).toBeNull();
    later(1);
    expect(await run(other)).toBe(0);
  });

  it('goes on where a run stopped, be it at its bound or at a failure, without losing the oldest', async () => {
    stripeHolds([]);
    await run();
    const backlog = Array.from({ length: 65 }, (_, n) => event(1 + n));
    later(100 * MINUTE_MS);
    // Twenty pages of two, then a failure in the middle of the second run.
    stripeHolds(backlog, 2);
    expect(await run()).toBe(40);
    let calls = 0;
    const asked = stripeHolds(backlog, 2);
    const answer = bench.gateway;
    const failing = {
      listEvents: (page: Parameters<typeof answer.listEvents>[0]) => {
        if (++calls > 3) throw new Error('the process ends here');
        return answer.listEvents(page);
      },
    };
    await expect(catchUp({ ...bench, gateway: failing, livemode: false })).rejects.toThrow('ends here');
    expect(asked).toHaveLength(3);
    expect(await run()).toBeNull();
    later(2 * MINUTE_MS);
    expect(await run()).toBe(19);
    expect(await stored()).toEqual(backlog.map(({ id }) => id).sort());
  });

  it('begins anew when Stripe no longer knows the event it had come to', async () => {
    stripeHolds([]);
    await run();
    const backlog = Array.from({ length: 45 }, (_, n) => event(1 + n));
    later(100 * MINUTE_MS);
    stripeHolds(backlog, 2);
    expect(await run()).toBe(40);
    // The service is off for a month: Stripe has forgotten all of these, and made others.
    later(31 * 24 * 60 * MINUTE_MS);
    const anew = event(31 * 24 * 60);
    const asked = stripeHolds([anew], 2);
    expect(await run()).toBe(1);
    expect(ofTheFirst(asked).map((query) => query.has('starting_after'))).toEqual([true, false]);
    expect(await stored()).toContain(anew.id);
  });

  it('goes on where each list of types stands, also from what an earlier version had kept', async () => {
    const reachedS = Math.floor(NOW.getTime() / 1_000);
    const turn = await takeTurn(bench.db, 'stripe-catch-up', { now: NOW, leaseMs: MINUTE_MS });
    if (!turn) throw new Error('it is due');
    const newest = event(50);
    const walk = { sinceS: reachedS, newestS: newest.created, after: newest.id };
    await saveTurn(bench.db, turn, { reachedS, walk }, NOW);
    const older = event(20);
    const changed = [event(30, 'customer.updated'), event(-1, 'customer.updated')];
    const long = event(-60, 'customer.updated');
    later(100 * MINUTE_MS);
    const asked = stripeHolds([newest, older, ...changed, long]);
    // Of the old list what is older than where the walk stood; of the new one all since nobody looked.
    expect(await run()).toBe(3);
    expect(await stored()).toEqual([older.id, ...changed.map(({ id }) => id)].sort());
    expect(asked.map((query) => query.get('starting_after'))).toEqual([newest.id, null]);
    // From here on each list has a place of its own.
    later(MINUTE_MS);
    const next = [event(98, 'customer.updated'), event(98)];
    stripeHolds([newest, older, ...changed, ...next]);
    expect(await run()).toBe(3);
    expect(await stored()).toContain(newest.id);
  });

  it('finds what is lost in the present while a test clock at Stripe is a year ahead', async () => {
    const ahead = event(365 * 24 * 60);
    stripeHolds([ahead]);
    expect(await run()).toBe(1);
    const present = event(5);
    later(10 * MINUTE_MS + 500);
    stripeHolds([ahead, present]);
    expect(await run()).toBe(1);
    later(10 * MINUTE_MS);
    expect(await run()).toBe(0);
    expect(await stored()).toEqual([ahead.id, present.id].sort());
  });

  it('is not held up by an event that it does not understand, and tells of it', async () => {
    const strange = { ...event(-2), data: {} };
    const plain = event(-3);
    stripeHolds([strange, plain]);
    expect(await run()).toBe(1);
    expect(await stored()).toEqual([plain.id]);
    expect(bench.log.errors).toEqual([{ eventId: strange.id }]);
  });

  it('writes nothing of a turn that took so long that another process has it', async () => {
    const leaseMs = MINUTE_MS;
    const lost = await takeTurn(bench.db, 'stripe-catch-up', { now: NOW, leaseMs });
    later(leaseMs);
    const won = await takeTurn(bench.db, 'stripe-catch-up', { now: bench.time.now, leaseMs });
    if (!lost || !won) throw new Error('both had their turn');
    await expect(saveTurn(bench.db, lost, { mine: 'lost' }, NOW)).rejects.toThrow('took too long');
    await saveTurn(bench.db, won, { mine: 'won' }, NOW);
    const next = await takeTurn(bench.db, 'stripe-catch-up', { now: NOW, leaseMs });
    expect(next?.progress).toEqual({ mine: 'won' });
  });

  it('stores an event of the other mode as ignored and does not count it', async () => {
    stripeHolds([{ ...event(-1), livemode: true } as never]);
    expect(await run()).toBe(0);
    expect(await stored()).toHaveLength(1);
    expect(await due()).toEqual([]);
  });
});
