import type { SubscriptionStatus } from '../../../../shared/billing.ts';
import type { BillingPeriod, Tier } from '../../../../shared/catalog.ts';
import type { SubscriptionRow } from './project.ts';

/** The columns of a subscription's row and their types, as the entity has them; a test compares. */
export const COLUMNS = {
  id: 'uuid',
  account_id: 'uuid',
  stripe_subscription_id: 'text',
  tier: 'text',
  pending_tier: 'text',
  pending_billing_period: 'text',
  pending_changes_at: 'timestamptz',
  status: 'text',
  billing_period: 'text',
  current_period_start: 'timestamptz',
  current_period_end: 'timestamptz',
  cancel_at_period_end: 'boolean',
  ends_at: 'timestamptz',
  ended_at: 'timestamptz',
  version: 'int',
  entitled: 'boolean',
  updated_at: 'timestamptz',
} as const;

/** A row as JSON has it, `Moment` being what stands for a point of time. */
type Columns<Moment> = {
  readonly id: string;
  readonly account_id: string;
  readonly stripe_subscription_id: string;
  readonly tier: Tier;
  readonly pending_tier: Tier | null;
  readonly pending_billing_period: BillingPeriod | null;
  readonly pending_changes_at: Moment | null;
  readonly status: SubscriptionStatus;
  readonly billing_period: BillingPeriod;
  readonly current_period_start: Moment;
  readonly current_period_end: Moment;
  readonly cancel_at_period_end: boolean;
  readonly ends_at: Moment | null;
  readonly ended_at: Moment | null;
  readonly version: number;
  readonly entitled: boolean;
  readonly updated_at: Moment;
};

/** A row to be written. */
export type NewRow = Columns<Date>;
/** A row as `to_jsonb` shows it. */
export type JsonRow = Columns<string>;

/** The row that we hold: the part of it that is a projection, and what names it. */
export type Held = { readonly id: string; readonly version: number; readonly row: SubscriptionRow };

export function heldOf(json: JsonRow): Held {
  const { pending_tier: tier, pending_billing_period: billingPeriod, pending_changes_at: at } = json;
  const changesAt = moment(at);
  return {
    id: json.id,
    version: json.version,
    row: {
      stripeSubscriptionId: json.stripe_subscription_id,
      tier: json.tier,
      pending: tier && billingPeriod && changesAt ? { tier, billingPeriod, changesAt } : null,
      status: json.status,
      billingPeriod: json.billing_period,
      currentPeriodStart: new Date(json.current_period_start),
      currentPeriodEnd: new Date(json.current_period_end),
      endsAt: moment(json.ends_at),
      endedAt: moment(json.ended_at),
      entitled: json.entitled,
    },
  };
}

const moment = (text: string | null): Date | null => (text === null ? null : new Date(text));

type Named = { id: string; accountId: string; version: number; updatedAt: Date };

export function columnsOf(
  { pending, ...row }: SubscriptionRow,
  { id, accountId, version, updatedAt }: Named,
): NewRow {
  return {
    id,
    account_id: accountId,
    stripe_subscription_id: row.stripeSubscriptionId,
    tier: row.tier,
    pending_tier: pending?.tier ?? null,
    pending_billing_period: pending?.billingPeriod ?? null,
    pending_changes_at: pending?.changesAt ?? null,
    status: row.status,
    billing_period: row.billingPeriod,
    current_period_start: row.currentPeriodStart,
    current_period_end: row.currentPeriodEnd,
    cancel_at_period_end: row.endsAt !== null,
    ends_at: row.endsAt,
    ended_at: row.endedAt,
    version,
    entitled: row.entitled,
    updated_at: updatedAt,
  };
}
