import { z } from 'zod';
import { BILLING_PERIODS, TIERS } from '../../shared/catalog.ts';

/** Dates become text in jsonb; reading the text back gives the date again. */
const moment = z.iso.datetime().transform((text) => new Date(text));
/** The smallest unit of the currency, as Stripe counts it. */
const amountCents = z.int();
/** Stripe writes currencies in lower case. */
const currency = z.string().regex(/^[A-Za-z]{3}$/);
const creditCents = z.int().min(0);
/** From Stripe or the operator. Whether it may stand in a mail is decided when the mail is written. */
const url = z.string().nullable();
const plan = z.object({ tier: z.enum(TIERS), billingPeriod: z.enum(BILLING_PERIODS) });

/** Whether a subscription waits for this payment to begin. */
const begins = z.boolean().default(false);
/** Whether the subscription that it bills is over, which no payment takes back. */
const over = z.boolean().default(false);

/** How an invoice comes to its total. Null where Stripe's figures do not add up to it. */
const charges = z.object({
  lines: z.array(z.object({ description: z.string().nullable(), amountCents })),
  /** What each takes off. */
  discounts: z.array(z.object({ name: z.string().nullable(), amountCents })),
  /** What credit grants take off. */
  creditsCents: amountCents,
  shippingCents: amountCents,
  /** On top of the lines. */
  taxCents: amountCents,
});

/** How a total comes to what was paid. Null where Stripe's figures do not add up to it. */
const settlement = z.object({
  /** Below zero: paid from the customer's credit balance. Above: owed from before. */
  balanceCents: amountCents,
  /** What credit notes took off before it was paid. */
  creditNotesCents: amountCents,
});

/** What comes next by itself; null where nothing may be promised. `bills`: the trial ends and payments begin. */
const next = z
  .discriminatedUnion('kind', [
    z.object({ kind: z.literal('renews'), at: moment }),
    z.object({ kind: z.literal('changes'), at: moment, to: plan }),
    z.object({ kind: z.literal('ends'), at: moment }),
    z.object({ kind: z.literal('bills'), at: moment }),
    z.object({ kind: z.literal('bills_if_it_can'), at: moment, otherwise: z.enum(['paused', 'ended']) }),
  ])
  .nullable();

/**
 * What each mail needs to know. Read back from jsonb through these: a member that came later has a default, for
 * the mails that were waiting then.
 */
export const EMAIL_DATA = {
  subscription_started: z.object({ plan, next: next.default(null) }),
  /** `changedAt` null: Stripe does not say when. `inEffect`: it can be used. */
  /** `endedAt`: set where the subscription of `from` ended then, and another one, of `to`, goes on. */
  plan_changed: z.object({
    from: plan,
    to: plan,
    changedAt: moment.nullable(),
    inEffect: z.boolean().default(false),
    endedAt: moment.nullable().default(null),
  }),
  /** `replaced`: what had been booked before. */
  plan_change_scheduled: z.object({
    from: plan,
    to: plan,
    changesAt: moment,
    replaced: z.object({ to: plan, changesAt: moment }).nullable().default(null),
  }),
  plan_change_unscheduled: z.object({ plan, calledOff: plan.nullable().default(null) }),
  /** `before`: the end that was planned until now. `until`: what may be said about the time until then. */
  cancellation_scheduled: z.object({
    plan,
    endsAt: moment,
    before: moment.nullable().default(null),
    until: z.enum(['works', 'renews']).nullable().default(null),
    undoable: z.boolean().default(false),
  }),
  cancellation_undone: z.object({ plan, next: next.default(null) }),
  /** `unpaid` is a status of its own; the others are reasons for the status `paused`. */
  subscription_paused: z.object({
    plan,
    reason: z.enum(['unpaid', 'paused', 'trial_ended', 'requested', 'payment_failed', 'unknown']),
    since: moment.nullable().default(null),
    payUrl: url,
  }),
  subscription_resumed: z.object({ plan, next: next.default(null) }),
  /** `endedAt` null: Stripe does not say when. */
  subscription_ended: z.object({ plan, endedAt: moment.nullable() }),
  trial_ending: z.object({ plan, trialEndsAt: moment, next: next.default(null) }),
  /** `charged` false: an invoice is sent instead. */
  renewal_upcoming: z.object({
    plan,
    amountCents,
    currency,
    renewsAt: moment,
    charged: z.boolean().default(true),
  }),
  /** `attempt` counts from 1. `nextAttemptAt` null: Stripe will not try again by itself. */
  payment_failed: z.object({
    plan: plan.nullable(),
    begins,
    over,
    attempt: z.int().min(1),
    amountCents,
    currency,
    nextAttemptAt: moment.nullable(),
    payUrl: url,
  }),
  payment_action_required: z.object({
    plan: plan.nullable(),
    begins,
    over,
    amountCents,
    currency,
    payUrl: url,
  }),
  payment_receipt: z.object({
    amountCents,
    currency,
    paidAt: moment,
    invoiceNumber: z.string().nullable(),
    charges: charges.nullable().default(null),
    totalCents: amountCents.nullable().default(null),
    /** The part of the lines that is tax. */
    includedTaxCents: amountCents.default(0),
    settlement: settlement.nullable().default(null),
    hostedInvoiceUrl: url,
  }),
  trial_pack_ready: z.object({ creditCents, expiresAt: moment, amountCents, currency }),
  trial_pack_payment_failed: z.object({ amountCents, currency }),
  trial_pack_suspended: z.object({ creditCents, expiresAt: moment }),
  trial_pack_reinstated: z.object({ creditCents, expiresAt: moment }),
  /** `refundedCents` null: the money went back by a dispute. */
  trial_pack_refunded: z.object({ refundedCents: amountCents.nullable(), currency, creditCents }),
  trial_pack_expired: z.object({ unspentCents: creditCents, expiredAt: moment }),
  credit_nearly_used: z.object({ creditCents, expiresAt: moment }),
  credit_used_up: z.object({}),
  credit_expiring: z.object({ creditCents, expiresAt: moment }),
  /** `amountCents` null: nothing was given back. `rest`: who decides about what has not been. */
  duplicate_purchase_refunded: z.object({
    purchase: z.enum(['trial_pack', 'subscription']),
    amountCents: amountCents.nullable(),
    currency,
    ended: plan.optional(),
    kept: plan.optional(),
    rest: z.enum(['none', 'with_person', 'with_bank']).optional(),
  }),
  /** The host alone: the rest of the address may hold a secret of its owner's. */
  /** `stripe`: it was changed there, be it by the customer or by others; Stripe does not say by whom. */
  email_changed: z.object({ from: z.string(), to: z.string(), by: z.enum(['stripe', 'staff']) }),
  webhook_endpoint_paused: z.object({
    host: z.string(),
    reason: z.enum(['gone', 'failing']),
    pausedAt: moment,
  }),
} satisfies Record<string, z.ZodType>;

export type EmailTemplate = keyof typeof EMAIL_DATA;

/** Template -> the data it is written from. */
export type EmailTemplates = { [T in EmailTemplate]: z.output<(typeof EMAIL_DATA)[T]> };

/** What comes next by itself, as a mail may promise it. */
export type Next = z.output<typeof next>;

/** A plan as the mails name it. */
export type Plan = z.output<typeof plan>;

/** The notices an account can switch off, by the column that says so. Failures cannot be switched off. */
export const SWITCHED_BY = {
  payment_receipt: 'receiptEmails',
  plan_changed: 'tierChangeEmails',
  plan_change_scheduled: 'tierChangeEmails',
  plan_change_unscheduled: 'tierChangeEmails',
  renewal_upcoming: 'renewalEmails',
} as const satisfies Partial<Record<EmailTemplate, string>>;
