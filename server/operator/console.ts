import type { BillingState } from '../../shared/billing.ts';
import { formatId } from '../../shared/ids.ts';
import { toWireTime } from '../../shared/time.ts';
import { listAudit } from '../audit/list.ts';
import { readBilling } from '../billing/caller.ts';
import { billingState } from '../billing/state.ts';
import type { Database } from '../database/connection.ts';
import { Account } from '../database/entities/account.ts';
import { Subscription } from '../database/entities/billing.ts';
import { Email, StripeEvent } from '../database/entities/journal.ts';
import { projected } from '../stripe/sync/subscription/record-row.ts';
import { type InspectedEndpoint, inspectWebhooks } from '../webhooks/inspect.ts';

const SHOWN = { accounts: 25, audit: 20, emails: 20, events: 50 } as const;

/** What the console of the local Stripe shows of this service: newest first, a bounded part of each list. */
export interface ConsoleView {
  readonly accounts: readonly {
    readonly account_id: string;
    readonly email: string;
    readonly stripe_customer_id: string | null;
    readonly billing_state: BillingState;
    /** What the billing state leaves out: whether the tier may be used, and Stripe's moments. */
    readonly standing: {
      readonly entitled: boolean;
      readonly ends_at: string | null;
      readonly ended_at: string | null;
      readonly booked: string | null;
    } | null;
    readonly audit: readonly object[];
    readonly emails: readonly object[];
    readonly webhooks: readonly InspectedEndpoint[];
  }[];
  /** What waits for work, by what it is: due now, in somebody's hands, or to be tried later. */
  readonly waiting: readonly { readonly what: string; readonly state: string; readonly count: number }[];
  readonly events: readonly object[];
}

/** Reads everything the console shows. For development: it costs five statements for each account. */
export async function readConsole(db: Database, now: Date): Promise<ConsoleView> {
  const em = db.orm.em.fork();
  const accounts = await em.find(
    Account,
    {},
    { orderBy: { createdAt: 'desc', id: 'desc' }, limit: SHOWN.accounts },
  );
  const events = await em.find(
    StripeEvent,
    {},
    { orderBy: { receivedAt: 'desc', id: 'desc' }, limit: SHOWN.events, exclude: ['raw'] },
  );
  return {
    accounts: await Promise.all(accounts.map((account) => readAccount(db, account, now))),
    waiting: await countWaiting(db),
    events: events.map((event) => ({
      id: event.id,
      type: event.type,
      account_id: event.accountId ? formatId('acc', event.accountId) : null,
      state: event.state,
      attempts: event.attempts,
      error: event.error,
      received_at: event.receivedAt.toISOString(),
    })),
  };
}

async function readAccount(
  db: Database,
  account: Account,
  now: Date,
): Promise<ConsoleView['accounts'][number]> {
  const emails = await db.orm.em
    .fork()
    .find(
      Email,
      { accountId: account.id },
      { orderBy: { createdAt: 'desc', id: 'desc' }, limit: SHOWN.emails },
    );
  return {
    account_id: formatId('acc', account.id),
    email: account.email,
    stripe_customer_id: account.stripeCustomerId ?? null,
    billing_state: billingState(await readBilling(db, account.id), now),
    standing: await readStanding(db, account.id),
    webhooks: await inspectWebhooks(db, account.id, now),
    audit: (await listAudit(db, account.id, { limit: SHOWN.audit })).data,
    emails: emails.map(({ template, state, createdAt, error }) => ({
      template,
      state,
      error,
      created_at: toWireTime(createdAt),
    })),
  };
}

async function readStanding(
  db: Database,
  accountId: string,
): Promise<ConsoleView['accounts'][number]['standing']> {
  const held = await db.orm.em.fork().findOne(Subscription, { accountId });
  if (!held) return null;
  const { entitled, endsAt, endedAt, pending } = projected(held);
  return {
    entitled,
    ends_at: endsAt && toWireTime(endsAt),
    ended_at: endedAt && toWireTime(endedAt),
    booked: pending && `${pending.tier} ${pending.billingPeriod} on ${toWireTime(pending.changesAt)}`,
  };
}

async function countWaiting({ pool }: Database): Promise<ConsoleView['waiting']> {
  const { rows } = await pool.query<ConsoleView['waiting'][number]>(WAITING);
  return rows;
}

const LEASED = ['account_sync', 'stripe_event', 'email'] as const;
const NAMES = { account_sync: 'accounts', stripe_event: 'events without an account', email: 'mails' };
const WAITING = LEASED.map(
  (table) => `select '${NAMES[table]}' as what, case when leased_until > now() then 'in hand'
    when due_at <= now() then 'due' else 'later' end as state, count(*)::int as count
  from ${table} where due_at is not null group by 1, 2`,
)
  .join(' union all ')
  .concat(' order by 1, 2');
