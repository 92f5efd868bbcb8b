import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import Stripe from 'stripe';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { untilTrue } from '../../../test/support/service.ts';
import { type LocalStripe, startLocalStripe } from '../local-stripe.ts';
import { type ClockMover, type Follower, moveClock } from '../move-clock.ts';
import { openWorld } from '../open-world.ts';
import type { World } from '../world.ts';
import { newPortal, openShop } from './support/shop.ts';

const DAY = 86_400;
const HOUR = 3_600;
/** Real time stands still here, so that every second counted is one that was moved. */
const NOW_MS = Date.parse('2026-05-01T00:00:00Z');

let world: World;
let busy: number;
let failures: unknown[];
let mover: ClockMover;
/** What rang and what the follower was asked, with the hours since the start. */
let story: string[];

beforeEach(() => {
  world = openWorld({ path: ':memory:', clock: () => NOW_MS });
  world.onWake('test', (_, id) => void story.push(`${id} rings at ${hours()}`));
  busy = 0;
  story = [];
  failures = [];
  const deliveries = { pump: () => {}, busy: () => busy, missedSince: () => 0 };
  const onFailure = (error: unknown): void => void failures.push(error);
  mover = moveClock(world, deliveries, { patienceMs: 120, onFailure });
});
afterEach(async () => {
  await mover.close();
  world.close();
});

const start = NOW_MS / 1_000;
const hours = (): number => (world.now() - start) / HOUR;
const wake = (id: string, afterHours: number): void =>
  world.wake('test', id, start + afterHours * HOUR, null);

/** Settles when asked for the `rounds`th time at one moment. */
function slowFollower(rounds: number, due: readonly number[] = []): Follower {
  let asked = 0;
  let at = -1;
  return {
    async settle() {
      asked = world.now() === at ? asked + 1 : 1;
      at = world.now();
      if (asked < rounds) return false;
      story.push(`settled at ${hours()}`);
      return true;
    },
    async nextDue() {
      const next = due.find((hour) => hour > hours());
      return next === undefined ? null : new Date((start + next * HOUR) * 1_000);
    },
  };
}

describe('moving the clock', () => {
  it('goes from one moment to the next, and stays at each until the follower has settled', async () => {
    wake('b', 30);
    wake('a', 5);
    wake('later', 49);
    mover.follow(slowFollower(3));
    await mover.move(start + 48 * HOUR);
    expect(story).toEqual([
      'settled at 0',
      'a rings at 5',
      'settled at 5',
      'b rings at 30',
      'settled at 30',
      'settled at 48',
    ]);
    expect(mover.current()).toMatchObject({ state: 'done', moments: 2, warnings: [] });
  });

  it("stops at the follower's own moments as well", async () => {
    wake('a', 5);
    mover.follow(slowFollower(1, [3, 20]));
    await mover.move(start + 24 * HOUR);
    expect(story).toEqual([
      'settled at 0',
      'settled at 3',
      'a rings at 5',
      'settled at 5',
      'settled at 20',
      'settled at 24',
    ]);
  });

  it('does not pass a moment whose webhooks are under way', async () => {
    wake('a', 5);
    world.onWake('test', () => {
      busy = 1;
      setTimeout(() => {
        story.push(`answered at ${hours()}`);
        busy = 0;
      }, 60);
    });
    await mover.move(start + 24 * HOUR);
    expect(story).toEqual(['answered at 5']);
  });

  it('goes on after a while without a follower that never settles or cannot tell, and says so', async () => {
    wake('a', 5);
    mover.follow({
      settle: async () => {
        if (hours() < 5) return true;
        throw new Error('the database is away');
      },
      nextDue: async () => {
        throw new Error('the database is away');
      },
    });
    await mover.move(start + 24 * HOUR);
    expect(hours()).toBe(24);
    const { state, warnings = [] } = mover.current() ?? {};
    expect(state).toBe('done');
    expect(warnings[0]).toMatch(/^2026-05-01 05:00 UTC: not everything was done/);
  });

  it('moves on to the later target when it is asked again on the way', async () => {
    wake('a', 5);
    mover.follow(slowFollower(2));
    const first = mover.move(start + 24 * HOUR);
    expect(mover.target()).toBe(start + 24 * HOUR);
    await Promise.all([first, mover.move((mover.target() ?? 0) + 24 * HOUR)]);
    expect(hours()).toBe(48);
    expect(mover.target()).toBeNull();
  });

  it('stops at the moment it is at, and can be moved again', async () => {
    for (const hour of [1, 2, 3, 4]) wake(`w${hour}`, hour);
    mover.follow({
      settle: async () => {
        if (hours() === 2) mover.stop();
        return true;
      },
      nextDue: async () => null,
    });
    await mover.move(start + 24 * HOUR);
    expect(hours()).toBe(2);
    expect(mover.current()?.state).toBe('stopped');
    mover.follow(slowFollower(1));
    await mover.move(start + 24 * HOUR);
    expect(hours()).toBe(24);
  });

  it('ends where something breaks, and tells what', async () => {
    wake('a', 5);
    world.onWake('test', () => {
      throw new Error('a defect');
    });
    await mover.move(start + 24 * HOUR);
    expect(mover.current()).toMatchObject({ state: 'failed' });
    expect(mover.current()?.warnings[0]).toContain('a defect');
    expect(failures).toHaveLength(1);
  });
});

describe('a local Stripe that was stopped', () => {
  const time = { ms: NOW_MS };
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'move-clock-'));
    time.ms = NOW_MS;
  });
  afterEach(() => rmSync(folder, { recursive: true }));
  const open = () =>
    startLocalStripe({
      port: 0,
      dataPath: join(folder, 'stripe.db'),
      clock: () => time.ms,
      awaitsFollower: true,
    });
  const nothing: Follower = { settle: async () => true, nextDue: async () => null };
  /** Follows to the end, and answers at which moments it was asked. */
  const followed = async (localStripe: LocalStripe, until = Number.POSITIVE_INFINITY): Promise<string[]> => {
    const asked = new Set<string>();
    const note = (): void =>
      void asked.add(new Date(localStripe.world.now() * 1_000).toISOString().slice(0, 10));
    localStripe.clock.follow({
      ...nothing,
      async settle() {
        note();
        return localStripe.world.now() < until;
      },
    });
    await untilTrue(() => {
      return until < Number.POSITIVE_INFINITY
        ? localStripe.world.now() >= until
        : localStripe.clock.target() === null;
    });
    return [...asked];
  };
  const sell = async (localStripe: LocalStripe): Promise<void> => {
    localStripe.clock.follow(nothing);
    const key = 'sk_test_local_stripe';
    const stripe = new Stripe(key, { host: '127.0.0.1', port: localStripe.port, protocol: 'http' });
    const product = await stripe.products.create({ name: 'API Builder' });
    const recurring = { interval: 'month' } as const;
    const price = { product: product.id, currency: 'usd', unit_amount: 900, recurring };
    const method = 'pm_card_visa';
    const customer = await stripe.customers.create({
      payment_method: method,
      invoice_settings: { default_payment_method: method },
    });
    const { id } = await stripe.prices.create(price);
    await stripe.subscriptions.create({ customer: customer.id, items: [{ price: id }] });
  };

  it('lives through what it missed when somebody follows, one moment after the other', async () => {
    const before = await open();
    await sell(before);
    await before.close();
    time.ms += 70 * DAY * 1_000;
    const after = await open();
    // Nobody follows yet, so nothing has happened: the clock stands where it was stopped.
    expect(new Date(after.world.now() * 1_000).toISOString()).toBe('2026-05-01T00:00:00.000Z');
    expect(after.world.nextWake(null)).toBe(Date.parse('2026-05-25T00:00:00Z') / 1_000);
    const asked = await followed(after);
    expect(asked).toEqual([
      '2026-05-01',
      '2026-05-25',
      '2026-06-01',
      '2026-06-24',
      '2026-07-01',
      '2026-07-10',
    ]);
    expect(after.world.now()).toBe(time.ms / 1_000);
    expect(after.world.aheadSeconds()).toBe(0);
    await after.close();
  });

  it('catches up over a further restart, and keeps what its clock was moved ahead', async () => {
    const before = await open();
    await sell(before);
    await before.clock.move(before.world.now() + 5 * DAY);
    await before.close();
    time.ms += 70 * DAY * 1_000;
    const broken = await open();
    await followed(broken, Date.parse('2026-06-01T00:00:00Z') / 1_000);
    await broken.close();
    const after = await open();
    expect(new Date(after.world.now() * 1_000).toISOString()).toBe('2026-06-01T00:00:00.000Z');
    expect(await followed(after)).toEqual(['2026-06-01', '2026-06-24', '2026-07-01', '2026-07-15']);
    expect(after.world.aheadSeconds()).toBe(5 * DAY);
    await after.close();
  });
});

describe('the clock of a local Stripe', () => {
  let endpoint: Server;
  afterEach(() => {
    endpoint.closeAllConnections();
    endpoint.close();
  });

  it('delivers the events of each moment before time goes on, also to one who is slow to answer', async () => {
    const local = await openShop();
    const { localStripe, stripe } = local;
    const seen: { type: string; created: number; arrivedAt: number }[] = [];
    endpoint = createServer((request, response) => {
      let body = '';
      request.on('data', (chunk) => (body += chunk));
      request.on('end', async () => {
        await sleep(40);
        const { type, created } = JSON.parse(body);
        seen.push({ type, created, arrivedAt: localStripe.world.now() });
        response.end();
      });
    }).listen(0, '127.0.0.1');
    await once(endpoint, 'listening');
    const { subscription } = await newPortal(local);
    await stripe.webhookEndpoints.create({
      url: urlOf(endpoint),
      enabled_events: ['invoice.upcoming', 'invoice.paid', 'invoice.payment_failed'],
    });
    await localStripe.clock.move(localStripe.world.now() + 62 * DAY);
    expect(seen.map(({ type }) => type)).toEqual([
      'invoice.upcoming',
      'invoice.paid',
      'invoice.upcoming',
      'invoice.paid',
    ]);
    for (const { created, arrivedAt } of seen) expect(arrivedAt - created).toBeLessThan(30);
    expect(localStripe.clock.current()?.warnings).toEqual([]);
    const { items } = await stripe.subscriptions.retrieve(subscription);
    expect(items.data[0]?.current_period_end).toBeGreaterThan(localStripe.world.now());
    await local.close();
  });

  it('says how many webhooks have not arrived, and does not wait for them for ever', async () => {
    const local = await openShop();
    endpoint = createServer((_, response) => response.writeHead(500).end()).listen(0, '127.0.0.1');
    await once(endpoint, 'listening');
    await newPortal(local);
    await local.stripe.webhookEndpoints.create({ url: urlOf(endpoint), enabled_events: ['invoice.paid'] });
    await local.localStripe.clock.move(local.localStripe.world.now() + 40 * DAY);
    expect(local.localStripe.clock.current()).toMatchObject({
      state: 'done',
      warnings: ['1 webhook of this time has not arrived, see Events and deliveries'],
    });
    await local.close();
  });
});

function urlOf(server: Server): string {
  const address = server.address();
  if (typeof address !== 'object' || address === null) throw new Error('it listens');
  return `http://127.0.0.1:${address.port}/`;
}
