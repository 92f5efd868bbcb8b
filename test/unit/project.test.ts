import fc from 'fast-check';
import type Stripe from 'stripe';
import { describe, expect, it } from 'vitest';
import openapi from '../../openapi.json' with { type: 'json' };
import { isLive, project, type SubscriptionRow } from '../../server/stripe/sync/subscription/project.ts';
import type { PriceMap } from '../../server/stripe/sync/subscription/schedule.ts';
import { SUBSCRIPTION_STATUSES, type SubscriptionStatus } from '../../shared/billing.ts';
import { CATALOGUE, TIERS } from '../../shared/catalog.ts';

const prices: PriceMap = new Map(CATALOGUE.map(({ lookupKey, ...entry }) => [`price_${lookupKey}`, entry]));
const START = 1_777_593_600;
const END = 1_780_272_000;

type Item = { price: string; start?: number; end?: number };
type Members = {
  id?: string;
  status?: string;
  created?: number;
  items?: Item[];
  cancel_at?: number | null;
  cancel_at_period_end?: boolean;
  canceled_at?: number | null;
  ended_at?: number | null;
  trial_end?: number | null;
  status_details?: unknown;
  schedule?: unknown;
  metadata?: Record<string, string>;
  pause_collection?: unknown;
  trial_settings?: unknown;
  default_payment_method?: string | null;
};

const builder = 'price_driftstack_api_builder_monthly';
const scale = 'price_driftstack_api_scale_annual';
const scaleMonthly = 'price_driftstack_api_scale_monthly';

/** Only the members that `project` reads, hence the cast: a whole subscription has some fifty more. */
function sub({ items = [{ price: builder }], ...members }: Members = {}): Stripe.Subscription {
  const data = items.map(({ price, start = START, end = END }) => ({
    price: { id: price },
    current_period_start: start,
    current_period_end: end,
  }));
  const plain = {
    cancel_at: null,
    cancel_at_period_end: false,
    ended_at: null,
    schedule: null,
    metadata: {},
  };
  const named = { id: 'sub_1', status: 'active', created: START };
  return { ...named, ...plain, ...members, items: { data } } as unknown as Stripe.Subscription;
}

const row = (members: Partial<SubscriptionRow> = {}): SubscriptionRow => ({
  stripeSubscriptionId: 'sub_1',
  tier: 'api_builder',
  pending: null,
  status: 'active',
  billingPeriod: 'monthly',
  currentPeriodStart: new Date(START * 1000),
  currentPeriodEnd: new Date(END * 1000),
  endsAt: null,
  endedAt: null,
  entitled: true,
  ...members,
});

const DAY = 86_400;
/** Where the last phase of a schedule of these tests ends. */
const LAST = END + 100 * DAY;

/** Phases that begin at these moments, each until the next; the first is the present one. */
function schedule(end_behavior: string, ...begins: readonly (readonly [number, string])[]) {
  const order = [...begins].sort(([a], [b]) => a - b);
  const endOf = (start: number) => order.find(([other]) => other > start)?.[0] ?? LAST;
  const phases = begins.map(([start_date, price]) => ({
    start_date,
    end_date: endOf(start_date),
    items: [{ price }],
  }));
  const current_phase = { start_date: START, end_date: endOf(START) };
  return { status: 'active', end_behavior, current_phase, phases };
}

describe('project', () => {
  it.each([
    ['incomplete', false],
    ['incomplete_expired', false],
    ['trialing', true],
    ['active', true],
    ['past_due', true],
    ['unpaid', false],
    ['paused', false],
    ['canceled', false],
  ] satisfies [SubscriptionStatus, boolean][])('keeps the status %s and entitles: %s', (status, entitled) => {
    const projection = project([sub({ status })], prices, null);
    expect(projection).toEqual({ row: row({ status, entitled }), former: null, duplicates: [], alerts: [] });
  });

  it('entitles by exactly the statuses that the reference names as entitling', () => {
    const { description = '' } = openapi.components.schemas.SubscriptionStatus;
    const [entitling = '', others = ''] = description.split('entitle to `tier`');
    const named = (text: string) => SUBSCRIPTION_STATUSES.filter((status) => text.includes(`\`${status}\``));
    const entitled = SUBSCRIPTION_STATUSES.filter(
      (status) => project([sub({ status })], prices, null).row?.entitled,
    );
    expect(named(entitling)).toEqual(entitled);
    expect(named(others)).toEqual(SUBSCRIPTION_STATUSES.filter((status) => !entitled.includes(status)));
    // Where `tier` is read, it says so too.
    const tier = openapi.components.schemas.SubscriptionTier.description;
    for (const status of ['unpaid', 'paused', 'incomplete', 'incomplete_expired', 'canceled'])
      expect(tier.slice(tier.indexOf('With `unpaid`'))).toContain(`\`${status}\``);
    expect(tier).toMatch(/grants nothing\.$/);
  });

  it('knows every status, so that a new one cannot be forgotten here', () => {
    for (const status of SUBSCRIPTION_STATUSES) {
      expect(project([sub({ status })], prices, null).row?.status).toBe(status);
    }
  });

  it('says nothing where Stripe holds nothing', () => {
    expect(project([], prices, row())).toEqual({ row: null, former: null, duplicates: [], alerts: [] });
  });

  it.each([
    ['the moment that the portal or staff set', { cancel_at: END }, END],
    ['one within the period', { cancel_at: START + 10 * DAY }, START + 10 * DAY],
    ['one periods away', { cancel_at: END + 90 * DAY }, END + 90 * DAY],
    ['the end of the period, of the older flag', { cancel_at_period_end: true }, END],
    ['the moment where both are set', { cancel_at: START + DAY, cancel_at_period_end: true }, START + DAY],
    [
      'the last phase of a schedule that cancels',
      { schedule: schedule('cancel', [START, builder], [END, scale]) },
      LAST,
    ],
    ['the earlier of the two', { cancel_at: END, schedule: schedule('cancel', [START, builder]) }, END],
  ] as const)('ends at %s', (_name, members, moment) => {
    expect(project([sub(members)], prices, null).row?.endsAt).toEqual(new Date(moment * 1000));
    const over = project([sub({ ...members, status: 'canceled', ended_at: START + 5 })], prices, null).row;
    expect(over).toMatchObject({ endsAt: null, endedAt: new Date((START + 5) * 1000) });
  });

  it('ends with the earliest of its items where it is to end with the period', () => {
    const items = [{ price: builder }, { price: 'price_of_support', end: END - DAY }];
    expect(project([sub({ items, cancel_at_period_end: true })], prices, null).row).toMatchObject({
      currentPeriodEnd: new Date(END * 1000),
      endsAt: new Date((END - DAY) * 1000),
    });
  });

  it.each(['release', 'none', 'renew'])('goes on after a schedule that ends with %s', (behavior) => {
    expect(
      project([sub({ schedule: schedule(behavior, [START, builder]) })], prices, null).row?.endsAt,
    ).toBeNull();
  });

  it('says when it ended only where Stripe does, which is not when that was asked for', () => {
    const asked = { status: 'canceled', canceled_at: START };
    expect(project([sub({ ...asked, ended_at: null })], prices, null).row?.endedAt).toBeNull();
    expect(project([sub({ ...asked, ended_at: END })], prices, null).row?.endedAt).toEqual(
      new Date(END * 1000),
    );
  });

  it('takes tier and period from the item of our catalogue, wherever it stands', () => {
    const items = [
      { price: 'price_of_support', end: END + 5 },
      { price: scale, start: 10, end: 20 },
    ];
    expect(project([sub({ items })], prices, null)).toMatchObject({
      row: { tier: 'api_scale', billingPeriod: 'annual', currentPeriodEnd: new Date(20_000) },
      alerts: [],
    });
  });

  const starter = 'price_driftstack_api_starter_monthly';
  it.each([
    [
      'a lower tier',
      [
        [START, builder],
        [END, starter],
      ],
      ['api_starter', 'monthly', END],
    ],
    [
      'both tier and period',
      [
        [START, builder],
        [END, scale],
      ],
      ['api_scale', 'annual', END],
    ],
    [
      'the period alone',
      [
        [START, builder],
        [END, 'price_driftstack_api_builder_annual'],
      ],
      ['api_builder', 'annual', END],
    ],
    [
      'the next of several',
      [
        [END + 9, scale],
        [END, starter],
      ],
      ['api_starter', 'monthly', END],
    ],
    [
      'what follows a phase of the same plan',
      [
        [START, builder],
        [END, builder],
        [END + 9, scale],
      ],
      ['api_scale', 'annual', END + 9],
    ],
    [
      'a change in the middle of a period',
      [
        [START, builder],
        [START + DAY, starter],
      ],
      ['api_starter', 'monthly', START + DAY],
    ],
    [
      'no change of the plan',
      [
        [START, builder],
        [END, builder],
      ],
      null,
    ],
    ['nothing that follows', [[START, builder]], null],
    [
      'a price of somebody else',
      [
        [START, builder],
        [END, 'price_of_support'],
      ],
      null,
    ],
  ] as const)('keeps what is booked: %s', (_name, phases, expected) => {
    const booked = expected && {
      tier: expected[0],
      billingPeriod: expected[1],
      changesAt: new Date(expected[2] * 1000),
    };
    const members = { schedule: schedule('release', ...phases) };
    expect(project([sub(members)], prices, null).row?.pending).toEqual(booked);
    expect(project([sub({ ...members, status: 'canceled' })], prices, null).row?.pending).toBeNull();
  });

  it('keeps nothing as booked of a schedule that is released, or that comes after the end', () => {
    const running = schedule('release', [START, builder], [END, starter]);
    const released = { ...running, status: 'released', current_phase: null };
    expect(project([sub({ schedule: released })], prices, null).row?.pending).toBeNull();
    expect(project([sub({ schedule: 'sub_sched_1' })], prices, null).row?.pending).toBeNull();
    expect(project([sub({ schedule: running, cancel_at: END })], prices, null).row?.pending).toBeNull();
  });

  it('keeps the last tier when it does not know the price, but follows status and period', () => {
    const unknown = sub({ items: [{ price: 'price_new', end: END + 7 }], status: 'past_due' });
    const projection = project([unknown], prices, row());
    expect(projection.row).toEqual(row({ status: 'past_due', currentPeriodEnd: new Date((END + 7) * 1000) }));
    expect(projection.alerts).toEqual([
      { kind: 'unknown_price', stripeSubscriptionId: 'sub_1', priceIds: ['price_new'] },
    ]);
  });

  it('leaves a subscription alone that is neither known nor ours, and alerts of one that we sold', () => {
    const foreign = sub({ id: 'sub_2', items: [{ price: 'price_other' }] });
    expect(project([foreign], prices, row())).toEqual({
      row: null,
      former: null,
      duplicates: [],
      alerts: [],
    });
    const sold = { ...foreign, metadata: { driftstack_account_id: 'acc_1' } };
    expect(project([sold], prices, null)).toMatchObject({ row: null, alerts: [{ kind: 'unknown_price' }] });
  });

  it.each([true, false])('keeps status and entitlement (%s) when it does not know the status', (entitled) => {
    const before = row({ status: entitled ? 'past_due' : 'unpaid', entitled });
    const projection = project([sub({ status: 'hibernating' })], prices, before);
    expect(projection.row).toEqual(before);
    expect(projection.alerts).toEqual([
      { kind: 'unknown_status', stripeSubscriptionId: 'sub_1', status: 'hibernating' },
    ]);
    expect(project([sub({ status: 'hibernating' })], prices, null).row).toBeNull();
  });

  it('names every other live subscription of our catalogue as a duplicate, and nothing else', () => {
    const { row: chosen, duplicates } = project(
      [
        sub({ id: 'sub_late', status: 'past_due', items: [{ price: scale }] }),
        sub({ id: 'sub_kept' }),
        sub({ id: 'sub_foreign', items: [{ price: 'price_other' }] }),
        sub({ id: 'sub_gone', status: 'canceled' }),
        sub({ id: 'sub_trying', status: 'incomplete' }),
      ],
      prices,
      null,
    );
    expect(chosen?.stripeSubscriptionId).toBe('sub_kept');
    expect(duplicates).toEqual(['sub_late']);
  });

  it('does not end a subscription of ours whose price it no longer knows', () => {
    const held = sub({ id: 'sub_1', items: [{ price: 'price_new' }] });
    const other = sub({ id: 'sub_2', items: [{ price: scale }] });
    const projection = project([held, other], prices, row());
    expect(projection.row?.stripeSubscriptionId).toBe('sub_2');
    expect(projection.duplicates).toEqual([]);
  });

  it.each([
    ['the higher tier among the living', 'active', [scale, 1], [builder, 2], 'sub_a'],
    ['the higher tier among the living, also the newer one', 'active', [builder, 1], [scale, 2], 'sub_b'],
    ['the older of one tier', 'active', [builder, 1], [builder, 2], 'sub_a'],
    ['the older of one tier, however it is listed', 'active', [builder, 2], [builder, 1], 'sub_b'],
    ['the older of one tier, whatever their periods', 'active', [scale, 1], [scaleMonthly, 2], 'sub_a'],
    ['the older of one tier, the monthly one', 'active', [scale, 2], [scaleMonthly, 1], 'sub_b'],
    ['the first by id of one second', 'active', [builder, 1], [builder, 1], 'sub_a'],
    ['the older of those past due', 'past_due', [builder, 1], [builder, 2], 'sub_a'],
    ['the newer of those that ended', 'canceled', [scale, 1], [builder, 2], 'sub_b'],
    ['the newer of those never paid', 'incomplete', [scale, 1], [builder, 2], 'sub_b'],
  ] satisfies [string, string, [string, number], [string, number], string][])(
    'chooses %s',
    (_, status, [priceA, createdA], [priceB, createdB], chosen) => {
      const a = sub({ id: 'sub_a', status, items: [{ price: priceA }], created: createdA });
      const b = sub({ id: 'sub_b', status, items: [{ price: priceB }], created: createdB });
      for (const listed of [
        [a, b],
        [b, a],
      ])
        expect(project(listed, prices, null).row?.stripeSubscriptionId).toBe(chosen);
    },
  );

  const later = { id: 'sub_2', created: START + 1 };
  const trial = (missing: string, card: string | null) => ({
    status: 'trialing',
    trial_settings: { end_behavior: { missing_payment_method: missing } },
    default_payment_method: card,
  });
  it.each([
    ['the first ends on a day', { cancel_at: END + 9 }, {}, 'ends_by_itself', 'sub_1'],
    ['the second ends on a day', {}, { cancel_at: END + 9 }, 'ends_by_itself', 'sub_2'],
    ['the first ends with its period', { cancel_at_period_end: true }, {}, 'ends_by_itself', 'sub_1'],
    ['the second ends with its schedule', {}, { schedule: schedule('cancel') }, 'ends_by_itself', 'sub_2'],
    ['the first is a trial that may end so', trial('cancel', null), {}, 'ends_by_itself', 'sub_1'],
    ['the first is a trial that may pause', trial('pause', null), {}, 'ends_by_itself', 'sub_1'],
    ['the second is paused', {}, { status: 'paused' }, 'paused', 'sub_2'],
    ['the first is not collected', { pause_collection: { behavior: 'void' } }, {}, 'paused', 'sub_1'],
    [
      'the higher tier is not collected',
      {},
      { items: [{ price: scale }], pause_collection: { behavior: 'keep_as_draft' } },
      'paused',
      'sub_2',
    ],
  ])('ends nobody where %s, and tells a person', (_, first, second, because, of) => {
    const third = sub({ id: 'sub_3', status: 'past_due' });
    const two = [sub(first), sub({ ...later, ...second })];
    const { row: chosen, duplicates, alerts } = project([...two, third], prices, null);
    expect(duplicates).toEqual([]);
    expect(alerts).toHaveLength(2);
    for (const alert of alerts)
      expect(alert).toMatchObject({
        kind: 'duplicate_left',
        beside: chosen?.stripeSubscriptionId,
        because,
        of,
      });
  });

  it.each([
    ['whose schedule lets it go on', { schedule: schedule('release') }],
    ['that is a trial with a card', trial('cancel', 'pm_1')],
    ['that is a trial which sends an invoice', trial('create_invoice', null)],
  ])('ends the second one beside one %s', (_, first) => {
    const projection = project([sub(first), sub(later)], prices, null);
    expect(projection).toMatchObject({ duplicates: ['sub_2'], alerts: [] });
  });

  it('weighs nothing against what it does not understand', () => {
    const unknownPrice = sub({ items: [{ price: 'price_new' }] });
    expect(project([unknownPrice, sub(later)], prices, row({ tier: 'api_scale' }))).toMatchObject({
      duplicates: [],
      alerts: [{ kind: 'unknown_price' }, { kind: 'duplicate_left', because: 'unknown_price' }],
    });
    const unknownStatus = sub({ status: 'hibernating' });
    expect(project([unknownStatus, sub(later)], prices, row())).toMatchObject({
      duplicates: [],
      alerts: [{ kind: 'unknown_status' }, { kind: 'duplicate_left', because: 'unknown_status' }],
    });
  });
});

const anySub = fc
  .record({
    id: fc.constantFrom('sub_1', 'sub_2', 'sub_3', 'sub_4'),
    status: fc.constantFrom(...SUBSCRIPTION_STATUSES, 'hibernating'),
    created: fc.integer({ min: START, max: START + 2 }),
    price: fc.constantFrom(...prices.keys(), 'price_unknown'),
    cancel_at: fc.option(fc.constant(END)),
    cancel_at_period_end: fc.boolean(),
  })
  .map(({ price, ...members }) => sub({ ...members, items: [{ price }] }));
const anySubs = fc.uniqueArray(anySub, { maxLength: 4, selector: ({ id }) => id });
const anyRow = fc.option(
  fc.record({ tier: fc.constantFrom(...TIERS), entitled: fc.boolean(), pending: fc.constant(null) }).map(row),
);

describe('project, of anything', () => {
  it('does not depend on the order in which Stripe lists', () => {
    fc.assert(
      fc.property(anySubs, anyRow, fc.infiniteStream(fc.nat()), (subs, before, noise) => {
        const shuffled = subs
          .map((value) => ({ value, at: noise.next().value }))
          .sort((a, b) => a.at - b.at)
          .map(({ value }) => value);
        const [one, two] = [project(subs, prices, before), project(shuffled, prices, before)];
        expect(two.row).toEqual(one.row);
        expect(two.duplicates).toEqual(one.duplicates);
      }),
    );
  });

  it('changes nothing when it is applied to its own result', () => {
    fc.assert(
      fc.property(anySubs, anyRow, (subs, before) => {
        const first = project(subs, prices, before);
        if (first.row) expect(project(subs, prices, first.row).row).toEqual(first.row);
      }),
    );
  });

  it('never names the chosen one a duplicate, and leaves no second living one unnamed', () => {
    fc.assert(
      fc.property(anySubs, anyRow, (subs, before) => {
        const { row: chosen, duplicates, alerts } = project(subs, prices, before);
        expect(duplicates).not.toContain(chosen?.stripeSubscriptionId);
        const living = subs.filter(
          ({ status, items }) =>
            SUBSCRIPTION_STATUSES.some((known) => known === status && isLive(known)) &&
            items.data.some(({ price }) => prices.has(price.id)),
        );
        const left = alerts.filter(({ kind }) => kind === 'duplicate_left');
        const named = new Set([
          ...duplicates,
          chosen?.stripeSubscriptionId,
          ...left.map(({ stripeSubscriptionId }) => stripeSubscriptionId),
        ]);
        expect(duplicates.length === 0 || left.length === 0, 'all of them, or none').toBe(true);
        for (const { id } of living) expect(named).toContain(id);
      }),
    );
  });

  it('never entitles by a price that it does not know', () => {
    fc.assert(
      fc.property(anySubs, (subs) => {
        const chosen = project(subs, prices, null).row;
        const source = subs.find(({ id }) => id === chosen?.stripeSubscriptionId);
        if (chosen) expect(source?.items.data.some(({ price }) => prices.has(price.id))).toBe(true);
      }),
    );
  });
});
