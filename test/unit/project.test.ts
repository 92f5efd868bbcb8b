import fc from 'fast-check';
import type Stripe from 'stripe';
import { describe, expect, it } from 'vitest';
import { effectsOfChange } from '../../server/stripe/changes.ts';
import { isLive, type PriceMap, project, type SubscriptionRow } from '../../server/stripe/project.ts';
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
  schedule?: unknown;
  metadata?: Record<string, string>;
  pause_collection?: unknown;
  trial_settings?: unknown;
  default_payment_method?: string | null;
};

const builder = 'price_driftstack_api_builder_monthly';
const scale = 'price_driftstack_api_scale_annual';
const scaleMonthly = 'price_driftstack_api_scale_monthly';

/** A schedule whose last phase is the present one. */
const schedule = (end_behavior: string) => ({
  end_behavior,
  current_phase: { start_date: START, end_date: END },
  phases: [],
});

/** Only the members that `project` reads, hence the cast: a whole subscription has some fifty more. */
function sub({ items = [{ price: builder }], ...members }: Members = {}): Stripe.Subscription {
  const data = items.map(({ price, start = START, end = END }) => ({
    price: { id: price },
    current_period_start: start,
    current_period_end: end,
  }));
  const plain = { cancel_at: null, cancel_at_period_end: false, schedule: null, metadata: {} };
  const named = { id: 'sub_1', status: 'active', created: START };
  return { ...named, ...plain, ...members, items: { data } } as unknown as Stripe.Subscription;
}

const row = (members: Partial<SubscriptionRow> = {}): SubscriptionRow => ({
  stripeSubscriptionId: 'sub_1',
  tier: 'api_builder',
  pendingTier: null,
  status: 'active',
  billingPeriod: 'monthly',
  currentPeriodStart: new Date(START * 1000),
  currentPeriodEnd: new Date(END * 1000),
  cancelAtPeriodEnd: false,
  entitled: true,
  ...members,
});

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
    expect(projection).toEqual({ row: row({ status, entitled }), duplicates: [], alerts: [] });
  });

  it('knows every status, so that a new one cannot be forgotten here', () => {
    for (const status of SUBSCRIPTION_STATUSES) {
      expect(project([sub({ status })], prices, null).row?.status).toBe(status);
    }
  });

  it('says nothing where Stripe holds nothing', () => {
    expect(project([], prices, row())).toEqual({ row: null, duplicates: [], alerts: [] });
  });

  it.each([{ cancel_at: END }, { cancel_at_period_end: true }])(
    'calls %o a scheduled cancellation',
    (members) => {
      expect(project([sub(members)], prices, null).row).toEqual(row({ cancelAtPeriodEnd: true }));
      expect(project([sub({ ...members, status: 'canceled' })], prices, null).row?.cancelAtPeriodEnd).toBe(
        false,
      );
    },
  );

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

  it('keeps what is booked for the next phase as pending, and only that', () => {
    const phase = (start_date: number, price: string) => ({ start_date, items: [{ price }] });
    const schedule = (...phases: unknown[]) => ({
      current_phase: { start_date: START, end_date: END },
      phases,
    });
    const pendingOf = (value: unknown) => project([sub({ schedule: value })], prices, null).row?.pendingTier;
    const starter = 'price_driftstack_api_starter_monthly';
    expect(pendingOf(schedule(phase(START, builder), phase(END, starter)))).toBe('api_starter');
    expect(pendingOf(schedule(phase(END + 9, scale), phase(END, starter)))).toBe('api_starter');
    expect(pendingOf(schedule(phase(START, builder), phase(END, builder)))).toBeNull();
    expect(pendingOf(schedule(phase(START, builder)))).toBeNull();
    expect(pendingOf('sub_sched_not_expanded')).toBeNull();
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
    expect(project([foreign], prices, row())).toEqual({ row: null, duplicates: [], alerts: [] });
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
  fc
    .record({ tier: fc.constantFrom(...TIERS), entitled: fc.boolean(), pendingTier: fc.constant(null) })
    .map(row),
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

describe('the effects of a change', () => {
  const effects = (before: SubscriptionRow | null, after: SubscriptionRow) => {
    const ids = { accountId: 'a', subscriptionId: 's', version: 7 };
    const all = effectsOfChange({
      ...ids,
      before,
      after,
      trialEndsAt: null,
      source: { stripe_event_id: 'evt_1' },
      now: new Date(END * 1000),
    });
    return {
      audit: all.flatMap((effect) => (effect.kind === 'audit' ? effect.action : [])),
      mail: all.flatMap((effect) => (effect.kind === 'mail' ? effect.template : [])),
      tier: all.find((effect) => effect.kind === 'audit' && effect.action === 'subscription.tier_changed'),
      keys: all.map(({ kind, key }) => `${kind} ${key}`),
    };
  };

  it('of the period moving on are none', () => {
    expect(effects(row(), row({ currentPeriodEnd: new Date(0) }))).toMatchObject({ audit: [], mail: [] });
  });

  it('of losing and regaining the entitlement name the tier as gone and back', () => {
    const unpaid = row({ status: 'unpaid', entitled: false });
    expect(effects(row(), unpaid)).toMatchObject({
      audit: ['subscription.tier_changed', 'subscription.status_changed'],
      mail: ['subscription_paused'],
      tier: { payload: { from: 'api_builder', to: null } },
    });
    expect(effects(unpaid, row())).toMatchObject({
      mail: ['subscription_resumed'],
      tier: { payload: { from: null, to: 'api_builder' } },
    });
  });

  it('of a booked downgrade are told when it is booked and taken back, not when it takes effect', () => {
    const booked = row({ pendingTier: 'api_starter' });
    expect(effects(row(), booked)).toEqual(
      expect.objectContaining({
        audit: ['subscription.tier_change_scheduled'],
        mail: ['plan_change_scheduled'],
      }),
    );
    expect(effects(booked, row())).toEqual(
      expect.objectContaining({
        audit: ['subscription.tier_change_unscheduled'],
        mail: ['plan_change_unscheduled'],
      }),
    );
    expect(effects(booked, row({ tier: 'api_starter' }))).toEqual(
      expect.objectContaining({ audit: ['subscription.tier_changed'], mail: ['plan_changed'] }),
    );
  });

  it('of a scheduled end coming true say that it ended, not that it was undone', () => {
    const ended = row({ status: 'canceled', entitled: false });
    expect(effects(row({ cancelAtPeriodEnd: true }), ended)).toMatchObject({
      audit: ['subscription.tier_changed', 'subscription.status_changed'],
      mail: ['subscription_ended'],
    });
  });

  it('of a purchase that was never paid are no mail', () => {
    expect(effects(null, row({ status: 'incomplete', entitled: false }))).toMatchObject({
      audit: ['subscription.status_changed'],
      mail: [],
    });
  });

  it('have keys that no two of them share', () => {
    const { keys } = effects(
      row(),
      row({
        tier: 'api_scale',
        billingPeriod: 'annual',
        status: 'past_due',
        cancelAtPeriodEnd: true,
        pendingTier: 'api_starter',
      }),
    );
    expect(keys.length).toBeGreaterThan(6);
    expect(new Set(keys).size).toBe(keys.length);
  });
});
