import type { EmailTemplate, EmailTemplates } from '../../server/notify/templates.ts';

type Sample = {
  [T in EmailTemplate]: readonly [name: string, template: T, data: EmailTemplates[T]];
}[EmailTemplate];

const builder = { tier: 'api_builder', billingPeriod: 'monthly' } as const;
const starter = { tier: 'api_starter', billingPeriod: 'annual' } as const;
const june = new Date('2026-06-01T00:00:00Z');
const deadline = new Date('2026-05-15T14:05:09Z');
const payUrl = 'https://invoice.stripe.com/i/acct_1/test_abc?s=ap';
const pay = { amountCents: 9_900, currency: 'usd' } as const;

/** Every mail at least once, with what it may have to say. */
export const SAMPLES: readonly Sample[] = [
  ['started', 'subscription_started', { plan: builder, next: { kind: 'renews', at: june } }],
  ['started-trial', 'subscription_started', { plan: builder, next: { kind: 'bills', at: june } }],
  [
    'started-trial-pauses',
    'subscription_started',
    { plan: builder, next: { kind: 'bills_if_it_can', at: june, otherwise: 'paused' } },
  ],
  ['started-ends', 'subscription_started', { plan: builder, next: { kind: 'ends', at: june } }],
  [
    'started-changes',
    'subscription_started',
    { plan: builder, next: { kind: 'changes', at: june, to: starter } },
  ],
  ['started-open', 'subscription_started', { plan: builder, next: null }],
  [
    'plan-changed',
    'plan_changed',
    { from: starter, to: builder, changedAt: june, inEffect: true, endedAt: null },
  ],
  [
    'period-changed',
    'plan_changed',
    {
      from: starter,
      to: { ...starter, billingPeriod: 'monthly' },
      changedAt: null,
      inEffect: false,
      endedAt: null,
    },
  ],
  [
    'plan-other-ended',
    'plan_changed',
    { from: builder, to: starter, changedAt: null, inEffect: true, endedAt: june },
  ],
  [
    'plan-scheduled',
    'plan_change_scheduled',
    { from: builder, to: starter, changesAt: june, replaced: null },
  ],
  [
    'period-scheduled',
    'plan_change_scheduled',
    {
      from: starter,
      to: { ...starter, billingPeriod: 'monthly' },
      changesAt: june,
      replaced: { to: builder, changesAt: deadline },
    },
  ],
  ['plan-unscheduled', 'plan_change_unscheduled', { plan: builder, calledOff: starter }],
  [
    'cancel-scheduled',
    'cancellation_scheduled',
    { plan: builder, endsAt: june, before: null, until: 'works', undoable: true },
  ],
  [
    'cancel-moved',
    'cancellation_scheduled',
    { plan: builder, endsAt: june, before: deadline, until: 'renews', undoable: false },
  ],
  ['cancel-undone', 'cancellation_undone', { plan: builder, next: { kind: 'renews', at: june } }],
  ['cancel-undone-open', 'cancellation_undone', { plan: builder, next: null }],
  ['unpaid', 'subscription_paused', { plan: builder, reason: 'unpaid', since: null, payUrl }],
  [
    'paused-trial',
    'subscription_paused',
    { plan: builder, reason: 'trial_ended', since: deadline, payUrl: null },
  ],
  [
    'paused-requested',
    'subscription_paused',
    { plan: builder, reason: 'requested', since: deadline, payUrl: null },
  ],
  [
    'paused-failure',
    'subscription_paused',
    { plan: builder, reason: 'payment_failed', since: deadline, payUrl: null },
  ],
  ['paused-unknown', 'subscription_paused', { plan: builder, reason: 'unknown', since: null, payUrl: null }],
  ['resumed', 'subscription_resumed', { plan: builder, next: { kind: 'renews', at: june } }],
  ['ended', 'subscription_ended', { plan: builder, endedAt: june }],
  ['ended-unknown', 'subscription_ended', { plan: builder, endedAt: null }],
  ['trial-ending', 'trial_ending', { plan: builder, trialEndsAt: june, next: { kind: 'bills', at: june } }],
  [
    'trial-ending-ends',
    'trial_ending',
    { plan: builder, trialEndsAt: june, next: { kind: 'ends', at: june } },
  ],
  [
    'trial-ending-pauses',
    'trial_ending',
    {
      plan: builder,
      trialEndsAt: june,
      next: { kind: 'bills_if_it_can', at: june, otherwise: 'paused' },
    },
  ],
  ['renewal', 'renewal_upcoming', { plan: builder, ...pay, renewsAt: june, charged: true }],
  [
    'renewal-free',
    'renewal_upcoming',
    { plan: builder, ...pay, amountCents: 0, renewsAt: june, charged: true },
  ],
  ['renewal-invoiced', 'renewal_upcoming', { plan: builder, ...pay, renewsAt: june, charged: false }],
  [
    'failed-first',
    'payment_failed',
    { plan: builder, begins: false, over: false, attempt: 1, ...pay, nextAttemptAt: deadline, payUrl },
  ],
  [
    'failed-last',
    'payment_failed',
    { plan: null, begins: false, over: false, attempt: 4, ...pay, nextAttemptAt: null, payUrl },
  ],
  [
    'failed-beginning',
    'payment_failed',
    { plan: builder, begins: true, over: false, attempt: 1, ...pay, nextAttemptAt: null, payUrl },
  ],
  [
    'action-required',
    'payment_action_required',
    { plan: builder, begins: false, over: false, ...pay, payUrl },
  ],
  [
    'action-required-elsewhere',
    'payment_action_required',
    { plan: builder, begins: true, over: false, ...pay, payUrl: null },
  ],
  [
    'receipt',
    'payment_receipt',
    {
      amountCents: 11_781,
      currency: 'eur',
      paidAt: june,
      invoiceNumber: 'DS-0001-0042',
      charges: {
        lines: [
          { description: 'Remaining time on API Builder after 1 Jun 2026', amountCents: 12_850 },
          { description: 'Unused time on API Starter after 1 Jun 2026', amountCents: -2_950 },
        ],
        discounts: [],
        creditsCents: 0,
        shippingCents: 0,
        taxCents: 1_881,
      },
      totalCents: 11_781,
      includedTaxCents: 0,
      settlement: { balanceCents: 0, creditNotesCents: 0 },
      hostedInvoiceUrl: payUrl,
    },
  ],
  [
    'receipt-everything',
    'payment_receipt',
    {
      amountCents: 2_000,
      currency: 'gbp',
      paidAt: june,
      invoiceNumber: 'DS-0001-0043',
      charges: {
        lines: [{ description: '1 × API Builder (at £99.00 / month)', amountCents: 9_900 }],
        discounts: [
          { name: 'LAUNCH20', amountCents: 1_980 },
          { name: null, amountCents: 20 },
        ],
        creditsCents: 900,
        shippingCents: 500,
        taxCents: 1_400,
      },
      totalCents: 8_900,
      includedTaxCents: 300,
      settlement: { balanceCents: -5_000, creditNotesCents: 1_900 },
      hostedInvoiceUrl: payUrl,
    },
  ],
  [
    'receipt-unexplained',
    'payment_receipt',
    {
      amountCents: 4_900,
      currency: 'usd',
      paidAt: june,
      invoiceNumber: null,
      charges: null,
      totalCents: 9_900,
      includedTaxCents: 0,
      settlement: null,
      hostedInvoiceUrl: null,
    },
  ],
  [
    'pack-ready',
    'trial_pack_ready',
    { creditCents: 299, expiresAt: deadline, amountCents: 299, currency: 'usd' },
  ],
  ['pack-failed', 'trial_pack_payment_failed', { amountCents: 299, currency: 'usd' }],
  ['pack-suspended', 'trial_pack_suspended', { creditCents: 250, expiresAt: deadline }],
  ['pack-reinstated', 'trial_pack_reinstated', { creditCents: 250, expiresAt: deadline }],
  ['pack-refunded', 'trial_pack_refunded', { refundedCents: 299, currency: 'usd', creditCents: 0 }],
  ['pack-refunded-part', 'trial_pack_refunded', { refundedCents: 100, currency: 'usd', creditCents: 199 }],
  ['pack-dispute-lost', 'trial_pack_refunded', { refundedCents: null, currency: 'usd', creditCents: 0 }],
  ['pack-expired', 'trial_pack_expired', { unspentCents: 120, expiredAt: deadline }],
  ['credit-low', 'credit_nearly_used', { creditCents: 29, expiresAt: deadline }],
  ['credit-gone', 'credit_used_up', {}],
  ['credit-expiring', 'credit_expiring', { creditCents: 120, expiresAt: deadline }],
  [
    'twice-pack',
    'duplicate_purchase_refunded',
    { purchase: 'trial_pack', amountCents: 299, currency: 'usd' },
  ],
  // As an earlier version queued it.
  [
    'twice-subscription-before',
    'duplicate_purchase_refunded',
    { purchase: 'subscription', amountCents: null, currency: 'usd' },
  ],
  ...(['none', 'with_person', 'with_bank'] as const).flatMap((rest): Sample[] =>
    [null, 9_900].map((amountCents) => [
      `twice-subscription-${rest}-${amountCents === null ? 'nothing' : 'some'}`,
      'duplicate_purchase_refunded',
      { purchase: 'subscription', amountCents, currency: 'usd', ended: starter, kept: builder, rest },
    ]),
  ),
  [
    'webhook-gone',
    'webhook_endpoint_paused',
    { host: 'hooks.example.net', reason: 'gone', pausedAt: deadline },
  ],
  [
    'webhook-failing',
    'webhook_endpoint_paused',
    { host: 'hooks.example.net', reason: 'failing', pausedAt: deadline },
  ],
  ['email-changed', 'email_changed', { from: 'ada@old.example', to: 'ada@new.example', by: 'stripe' }],
  ['email-changed-staff', 'email_changed', { from: 'ada@old.example', to: 'ada@new.example', by: 'staff' }],
];
