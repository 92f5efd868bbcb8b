import type Stripe from 'stripe';
import { describe, expect, it } from 'vitest';
import { effectsOfChange } from '../../server/stripe/sync/subscription/changes.ts';
import type { SubscriptionRow } from '../../server/stripe/sync/subscription/project.ts';

const DAY = 86_400;
const START = 1_777_593_600;
const END = 1_780_272_000;
const at = (seconds: number) => new Date(seconds * 1000);
const wire = (seconds: number) => at(seconds).toISOString().replace('.000', '');

const row = (members: Partial<SubscriptionRow> = {}): SubscriptionRow => ({
  stripeSubscriptionId: 'sub_1',
  tier: 'api_builder',
  pending: null,
  status: 'active',
  billingPeriod: 'monthly',
  currentPeriodStart: at(START),
  currentPeriodEnd: at(END),
  endsAt: null,
  endedAt: null,
  entitled: true,
  ...members,
});

const starter = (changesAt = END) =>
  ({ tier: 'api_starter', billingPeriod: 'monthly', changesAt: at(changesAt) }) as const;
const yearly = (changesAt = END) =>
  ({ tier: 'api_builder', billingPeriod: 'annual', changesAt: at(changesAt) }) as const;

type Members = Partial<Record<keyof Stripe.Subscription, unknown>>;

/** As Stripe holds it: only the members that are read, hence the cast. */
const held = (members: Members = {}): Stripe.Subscription =>
  ({
    id: 'sub_1',
    status: 'active',
    created: START,
    pause_collection: null,
    schedule: null,
    trial_end: null,
    trial_settings: null,
    ...members,
  }) as unknown as Stripe.Subscription;

function effects(
  before: SubscriptionRow | null,
  after: SubscriptionRow,
  {
    members = {},
    planChangedAt = null,
    endedAt = after.endedAt,
  }: { members?: Members; planChangedAt?: Date | null; endedAt?: Date | null } = {},
) {
  const all = effectsOfChange({
    accountId: 'a',
    subscriptionId: 's',
    version: 7,
    before,
    after,
    endedAt,
    subscription: held({ status: after.status, ...members }),
    planChangedAt,
    source: { stripe_event_id: 'evt_1' },
  });
  const audits = all.flatMap((effect) => (effect.kind === 'audit' ? [effect] : []));
  const mails = all.flatMap((effect) => (effect.kind === 'mail' ? [effect] : []));
  return {
    actions: audits.map(({ action }) => action),
    payloads: audits.map(({ payload: { stripe_event_id: _, ...payload } }) => payload),
    mails: mails.map(({ template }) => template),
    data: mails.map(({ data }) => data),
    keys: all.map(({ kind, key }) => `${kind} ${key}`),
  };
}

const NONE = { actions: [], mails: [] };

describe('a change of the row', () => {
  it('by the period moving on tells nothing', () => {
    expect(effects(row(), row({ currentPeriodEnd: at(0) }))).toMatchObject(NONE);
  });

  it('that takes the entitlement or gives it back names the tier as gone and back', () => {
    const unpaid = row({ status: 'unpaid', entitled: false });
    expect(effects(row(), unpaid)).toMatchObject({
      actions: ['subscription.tier_changed', 'subscription.status_changed'],
      payloads: [
        { from: 'api_builder', to: null },
        { from: 'active', to: 'unpaid' },
      ],
      mails: ['subscription_paused'],
    });
    expect(effects(unpaid, row())).toMatchObject({
      payloads: [
        { from: null, to: 'api_builder' },
        { from: 'unpaid', to: 'active' },
      ],
      mails: ['subscription_resumed'],
    });
  });

  it('by a purchase that was never paid mails nobody', () => {
    expect(effects(null, row({ status: 'incomplete', entitled: false }))).toMatchObject({
      actions: ['subscription.status_changed'],
      mails: [],
    });
  });

  it('of the plan says when only as far as Stripe does', () => {
    const to = row({ tier: 'api_scale', billingPeriod: 'annual' });
    expect(effects(row(), to)).toMatchObject({
      payloads: [
        { from: 'api_builder', to: 'api_scale' },
        { from: 'monthly', to: 'annual' },
      ],
      data: [{ changedAt: null, inEffect: true }],
    });
    const known = effects(row(), to, { planChangedAt: at(START + DAY) });
    expect(known.payloads).toEqual([
      { from: 'api_builder', to: 'api_scale', changed_at: wire(START + DAY) },
      { from: 'monthly', to: 'annual', changed_at: wire(START + DAY) },
    ]);
    expect(known.data).toMatchObject([{ changedAt: at(START + DAY) }]);
  });

  it('has keys that no two of its effects share', () => {
    const { keys } = effects(
      row(),
      row({
        tier: 'api_scale',
        billingPeriod: 'annual',
        status: 'past_due',
        endsAt: at(END),
        pending: starter(END - DAY),
      }),
    );
    expect(keys.length).toBeGreaterThan(8);
    expect(new Set(keys).size).toBe(keys.length);
  });
});

describe('a planned end', () => {
  it('is told with its own moment, again with each other moment, and when it is taken back', () => {
    const [first, second] = [row({ endsAt: at(START + 10 * DAY) }), row({ endsAt: at(START + 12 * DAY) })];
    expect(effects(row(), first)).toMatchObject({
      actions: ['subscription.cancel_scheduled'],
      payloads: [{ ends_at: wire(START + 10 * DAY) }],
      mails: ['cancellation_scheduled'],
      data: [{ endsAt: at(START + 10 * DAY), before: null }],
    });
    expect(effects(first, first)).toMatchObject(NONE);
    expect(effects(first, second)).toMatchObject({
      actions: ['subscription.cancel_scheduled'],
      payloads: [{ ends_at: wire(START + 12 * DAY) }],
      data: [{ endsAt: at(START + 12 * DAY), before: at(START + 10 * DAY) }],
    });
    expect(effects(second, row())).toMatchObject({
      actions: ['subscription.cancel_unscheduled'],
      mails: ['cancellation_undone'],
    });
  });

  it('of a subscription that another has replaced is called off by nobody, and says when that one ended', () => {
    const END_OF_IT = START + 10 * DAY;
    const other = row({ stripeSubscriptionId: 'sub_2', tier: 'api_starter' });
    const planned = [row({ endsAt: at(END_OF_IT) }), row({ pending: yearly() })];
    const told = planned.map((before) => {
      const { payloads, mails, data } = effects(before, other, { endedAt: at(END_OF_IT) });
      expect(mails).toEqual(['plan_changed']);
      expect(data).toMatchObject([{ endedAt: at(END_OF_IT) }]);
      return payloads.at(-1);
    });
    expect(told).toEqual([
      { because: 'replaced', ended_at: wire(END_OF_IT) },
      { to: 'annual', because: 'replaced', ended_at: wire(END_OF_IT) },
    ]);
    // Of the same plan as well: what the customer sees in the portal is one less.
    const twin = effects(row(), row({ stripeSubscriptionId: 'sub_2' }), { endedAt: at(END_OF_IT) });
    expect(twin).toMatchObject({ mails: ['plan_changed'], data: [{ endedAt: at(END_OF_IT) }] });
    const { payloads } = effects(row({ endsAt: at(END_OF_IT) }), other, { endedAt: null });
    expect(payloads.at(-1)).toEqual({ because: 'replaced' });
    expect(effects(row({ endsAt: at(END_OF_IT) }), row()).payloads).toEqual([{}]);
  });

  it('that comes true says that it ended and when, not that it was undone', () => {
    const ended = row({ status: 'canceled', entitled: false, endedAt: at(START + 10 * DAY) });
    expect(effects(row({ endsAt: at(START + 10 * DAY) }), ended)).toMatchObject({
      actions: ['subscription.tier_changed', 'subscription.status_changed'],
      payloads: [{ to: null }, { to: 'canceled', ended_at: wire(START + 10 * DAY) }],
      mails: ['subscription_ended'],
      data: [{ endedAt: at(START + 10 * DAY) }],
    });
    expect(effects(row(), { ...ended, endedAt: null })).toMatchObject({
      payloads: [{ to: null }, { from: 'active', to: 'canceled' }],
      data: [{ endedAt: null }],
    });
  });

  it('of one subscription is not undone by another that takes its place', () => {
    const other = row({ stripeSubscriptionId: 'sub_2', tier: 'api_scale' });
    expect(effects(row({ endsAt: at(END), pending: starter(END - 1) }), other).mails).toEqual([
      'plan_changed',
    ]);
  });

  it.each([
    ['with the period', row({ endsAt: at(END) }), {}, { until: 'works', undoable: true }],
    ['within it', row({ endsAt: at(END - DAY) }), {}, { until: 'works', undoable: false }],
    ['after renewals', row({ endsAt: at(END + 90 * DAY) }), {}, { until: 'renews', undoable: false }],
    [
      'after renewals that are not collected',
      row({ endsAt: at(END + 90 * DAY) }),
      { pause_collection: { behavior: 'void', resumes_at: null } },
      { until: null, undoable: false },
    ],
    [
      'while a payment is open',
      row({ status: 'past_due', endsAt: at(END) }),
      {},
      { until: null, undoable: false },
    ],
    [
      'while it cannot be used',
      row({ status: 'unpaid', entitled: false, endsAt: at(END) }),
      {},
      { until: null, undoable: false },
    ],
    [
      'by a schedule',
      row({ endsAt: at(END) }),
      {
        schedule: {
          end_behavior: 'cancel',
          current_phase: { start_date: START, end_date: END },
          phases: [{ start_date: START, end_date: END, items: [] }],
        },
      },
      { until: 'works', undoable: false },
    ],
  ])('%s promises what holds until then', (_name, after, members, expected) => {
    const before = { ...after, endsAt: null };
    expect(effects(before, after, { members }).data).toMatchObject([expected]);
  });
});

describe('a booked change', () => {
  it('of the tier is told when booked, moved, replaced and taken back, not when it takes effect', () => {
    const booked = row({ pending: starter() });
    expect(effects(row(), booked)).toMatchObject({
      actions: ['subscription.tier_change_scheduled'],
      payloads: [{ from: 'api_builder', to: 'api_starter', changes_at: wire(END) }],
      mails: ['plan_change_scheduled'],
      data: [{ to: { tier: 'api_starter', billingPeriod: 'monthly' }, changesAt: at(END), replaced: null }],
    });
    expect(effects(booked, row({ pending: starter(END + DAY) }))).toMatchObject({
      payloads: [{ to: 'api_starter', changes_at: wire(END + DAY) }],
      data: [{ changesAt: at(END + DAY), replaced: { changesAt: at(END) } }],
    });
    expect(effects(booked, row())).toMatchObject({
      actions: ['subscription.tier_change_unscheduled'],
      payloads: [{ to: 'api_starter' }],
      mails: ['plan_change_unscheduled'],
      data: [{ calledOff: { tier: 'api_starter', billingPeriod: 'monthly' } }],
    });
    expect(effects(booked, row({ tier: 'api_starter' }))).toMatchObject({
      actions: ['subscription.tier_changed'],
      mails: ['plan_changed'],
    });
  });

  it('of the period alone is told the same way', () => {
    const annual = row({ billingPeriod: 'annual' });
    const monthly = { tier: 'api_builder', billingPeriod: 'monthly', changesAt: at(END) } as const;
    const booked = { ...annual, pending: monthly };
    expect(effects(annual, booked)).toMatchObject({
      actions: ['subscription.billing_period_change_scheduled'],
      payloads: [{ from: 'annual', to: 'monthly', changes_at: wire(END) }],
      mails: ['plan_change_scheduled'],
      data: [{ from: { billingPeriod: 'annual' }, to: { billingPeriod: 'monthly' }, changesAt: at(END) }],
    });
    expect(effects(booked, annual)).toMatchObject({
      actions: ['subscription.billing_period_change_unscheduled'],
      payloads: [{ to: 'monthly' }],
      mails: ['plan_change_unscheduled'],
    });
    expect(effects(booked, row())).toMatchObject({
      actions: ['subscription.billing_period_changed'],
      mails: ['plan_changed'],
    });
  });

  it('that is replaced by one of another kind takes back what was told of the first', () => {
    expect(effects(row({ pending: starter() }), row({ pending: yearly() }))).toMatchObject({
      actions: ['subscription.tier_change_unscheduled', 'subscription.billing_period_change_scheduled'],
      mails: ['plan_change_scheduled'],
      data: [{ replaced: { to: { tier: 'api_starter', billingPeriod: 'monthly' }, changesAt: at(END) } }],
    });
  });

  it('that took effect while the next was booked is replaced by nothing', () => {
    const after = row({ tier: 'api_starter', pending: { ...yearly(END + 30 * DAY), tier: 'api_starter' } });
    expect(effects(row({ pending: starter() }), after)).toMatchObject({
      actions: ['subscription.tier_changed', 'subscription.billing_period_change_scheduled'],
      data: [{}, { replaced: null }],
    });
  });
});

describe('a pause', () => {
  const paused = row({ status: 'paused', entitled: false });
  const told = (type: string) => ({
    status_details: { paused: { subscription: { type }, transitioned_at: START + 9, type: 'subscription' } },
  });
  const pausesWithout = { end_behavior: { billing_cycle_anchor: null, missing_payment_method: 'pause' } };
  const trialing = row({ status: 'trialing' });

  it.each([
    ['trial_end_without_payment_method', 'trial_ended'],
    ['pause_requested', 'requested'],
    ['first_payment_failure', 'payment_failed'],
    ['final_payment_failure', 'payment_failed'],
    ['system', 'unknown'],
    ['a_reason_of_the_future', 'unknown'],
  ])('that Stripe calls %s is told as %s, and since when', (type, reason) => {
    const { data, payloads } = effects(row(), paused, { members: told(type) });
    expect(data).toMatchObject([{ reason, since: at(START + 9) }]);
    expect(payloads.at(-1)).toEqual({
      from: 'active',
      to: 'paused',
      pause_reason: reason,
      paused_at: wire(START + 9),
    });
  });

  it('without a word of Stripe is of the trial only where a trial of it has ended so', () => {
    const members = { trial_settings: pausesWithout, trial_end: START + 5 * DAY };
    expect(effects(trialing, paused, { members }).data).toMatchObject([
      { reason: 'trial_ended', since: at(START + 5 * DAY) },
    ]);
    // It never had a trial, it was to be billed after it, or a period has begun since.
    for (const other of [
      { trial_settings: pausesWithout, trial_end: null },
      {
        trial_settings: { end_behavior: { missing_payment_method: 'create_invoice' } },
        trial_end: START + 5 * DAY,
      },
      { trial_settings: pausesWithout, trial_end: START },
    ])
      expect(effects(row(), paused, { members: other }).data).toMatchObject([
        { reason: 'unknown', since: null },
      ]);
  });

  it('is told apart from a payment that was not made', () => {
    const unpaid = row({ status: 'unpaid', entitled: false });
    expect(effects(row(), unpaid).data).toMatchObject([{ reason: 'unpaid', since: null }]);
  });
});

describe('what a mail promises to come next', () => {
  const next = (after: SubscriptionRow, members: Members = {}) => effects(null, after, { members }).data[0];
  const trial = { trial_end: END };
  const trialing = row({ status: 'trialing' });

  it.each([
    ['a renewal', row(), {}, { kind: 'renews', at: at(END) }],
    ['its end', row({ endsAt: at(END) }), {}, { kind: 'ends', at: at(END) }],
    ['a renewal, and its end later', row({ endsAt: at(END + DAY) }), {}, { kind: 'renews', at: at(END) }],
    [
      'a booked change',
      row({ pending: starter() }),
      {},
      { kind: 'changes', at: at(END), to: { tier: 'api_starter' } },
    ],
    ['the first payment', trialing, trial, { kind: 'bills', at: at(END) }],
    ['an end with the trial', { ...trialing, endsAt: at(END) }, trial, { kind: 'ends', at: at(END) }],
    [
      'what a payment method decides',
      trialing,
      { ...trial, trial_settings: { end_behavior: { missing_payment_method: 'cancel' } } },
      { kind: 'bills_if_it_can', at: at(END), otherwise: 'ended' },
    ],
    [
      'a renewal after collection is resumed',
      row(),
      { pause_collection: { behavior: 'void', resumes_at: END - DAY } },
      { kind: 'renews', at: at(END) },
    ],
    ['nothing: a payment is open', row({ status: 'past_due' }), {}, null],
    [
      'nothing: collection is paused',
      row(),
      { pause_collection: { behavior: 'void', resumes_at: null } },
      null,
    ],
    [
      'nothing: collection resumes after the renewal',
      row(),
      { pause_collection: { behavior: 'keep_as_draft', resumes_at: END + 1 } },
      null,
    ],
    ['nothing: Stripe has a status that we do not know', row(), { status: 'hibernating' }, null],
  ])('is %s', (_name, after, members, expected) => {
    const data = next(after, members);
    expect(data).toHaveProperty('next');
    if (expected === null) expect(data).toHaveProperty('next', null);
    else expect(data).toMatchObject({ next: expected });
  });
});
