import { z } from 'zod';
import type { BillingState } from '../../shared/billing.ts';
import { toWireTime } from '../../shared/time.ts';
import { readBilling } from '../billing/caller.ts';
import { billingState } from '../billing/state.ts';
import type { Database } from '../database/connection.ts';
import { Account, FormerStripeCustomer } from '../database/entities/account.ts';
import { CheckoutAttempt, Subscription } from '../database/entities/billing.ts';
import { AuditEntry, Email, StripeEvent } from '../database/entities/journal.ts';
import { DIFFERENCE_KINDS, inWords } from '../stripe/repair/drift.ts';
import { projected } from '../stripe/sync/subscription/record-row.ts';
import type { PendingPlan } from '../stripe/sync/subscription/schedule.ts';

/** A stored event without its body. */
export type EventRow = Pick<
  StripeEvent,
  'id' | 'type' | 'state' | 'attempts' | 'createdAt' | 'receivedAt'
> & {
  readonly accountId?: string | null | undefined;
  readonly objectId?: string | null | undefined;
  readonly customerId?: string | null | undefined;
  readonly error?: string | null | undefined;
  readonly processedAt?: Date | null | undefined;
};

/** One thing that happened to an account, by whoever it was. */
export type Happening = {
  readonly at: Date;
  readonly source: 'api' | 'stripe' | 'audit' | 'mail';
  /** Its name where it has one: an event's id, an action, a template. */
  readonly name: string;
  readonly text: string;
  readonly details: Readonly<Record<string, unknown>>;
};

/** Why an account is where it is: what holds now, and everything that led there, oldest first. */
export type Timeline = {
  readonly account: { id: string; email: string; stripeCustomerId: string | null; createdAt: Date };
  /** The customers it had that Stripe has deleted, the last one first. */
  readonly formerCustomers: readonly { id: string; since: Date }[];
  readonly state: BillingState;
  /** What a consumer may grant now. */
  readonly tier: string;
  /** A change of plan that is booked. */
  readonly pending: PendingPlan | null;
  /** When the subscription will end by itself, and when it ended, as far as Stripe says. */
  readonly endsAt: Date | null;
  readonly endedAt: Date | null;
  readonly waiting: { events: number; dead: number; mails: number };
  readonly happenings: readonly Happening[];
};

/** Reads all there is about an account in one snapshot of the database. Throws `not-found`. */
export async function readTimeline(db: Database, accountId: string, now: Date): Promise<Timeline> {
  const state = billingState(await readBilling(db, accountId), now);
  return await db.transaction(
    async (tx) => {
      const account = await tx.findOneOrFail(Account, accountId);
      const former = await tx.find(FormerStripeCustomer, { accountId }, { orderBy: { since: 'desc' } });
      const row = await tx.findOne(Subscription, { accountId });
      const held = row && projected(row);
      const attempts = await tx.find(CheckoutAttempt, { accountId });
      const events = await tx.find(StripeEvent, { accountId }, { exclude: ['raw'] });
      const entries = await tx.find(AuditEntry, { accountId }, { orderBy: { position: 'asc' } });
      const mails = await tx.find(Email, { accountId });
      const { id, email, createdAt } = account;
      return {
        account: { id, email, stripeCustomerId: account.stripeCustomerId ?? null, createdAt },
        formerCustomers: former.map((one) => ({ id: one.stripeCustomerId, since: one.since })),
        state,
        tier: row?.entitled ? row.tier : 'free',
        pending: held?.pending ?? null,
        endsAt: held?.endsAt ?? null,
        endedAt: held?.endedAt ?? null,
        waiting: {
          events: events.filter((event) => event.state === 'received').length,
          dead: events.filter((event) => event.state === 'dead').length,
          mails: mails.filter((mail) => mail.state === 'pending' || mail.state === 'parked').length,
        },
        happenings: [
          ...attempts.map(ofAttempt),
          ...events.map((event) => ofEvent(event, entries)),
          ...entries.map((entry) => ofEntry(entry, events)),
          ...mails.map(ofMail),
        ].toSorted((a, b) => a.at.getTime() - b.at.getTime()),
      };
    },
    { isolation: 'repeatable read' },
  );
}

function ofAttempt(attempt: CheckoutAttempt): Happening {
  const { kind, state, stripeSessionId } = attempt;
  const what = kind === 'trial_pack' ? 'the trial pack' : 'a subscription';
  return {
    at: attempt.createdAt,
    source: 'api',
    name: 'checkout',
    text: `Checkout for ${what} was asked for; it is ${state} since ${toWireTime(attempt.updatedAt)}`,
    details: { kind, state, checkout_session_id: stripeSessionId ?? null },
  };
}

function ofEvent(event: EventRow, entries: readonly AuditEntry[]): Happening {
  const changed = entries
    .filter(({ payload }) => payload['stripe_event_id'] === event.id)
    .map(({ action }) => action);
  const effect = {
    received: `waits, after ${event.attempts} tries`,
    done: changed.length === 0 ? 'was carried out and left no audit entry' : `changed: ${changed.join(', ')}`,
    ignored: 'was ignored',
    dead: `was given up after ${event.attempts} tries`,
  }[event.state];
  return {
    at: event.receivedAt,
    source: 'stripe',
    name: event.id,
    text: `${event.type}${event.objectId ? ` of ${event.objectId}` : ''} ${effect}${event.error ? `: ${event.error}` : ''}`,
    details: {
      type: event.type,
      object_id: event.objectId ?? null,
      state: event.state,
      attempts: event.attempts,
      error: event.error ?? null,
      created_at: toWireTime(event.createdAt),
      processed_at: event.processedAt ? toWireTime(event.processedAt) : null,
      changed,
    },
  };
}

function ofEntry(entry: AuditEntry, events: readonly { id: string; type: string }[]): Happening {
  const { stripe_event_id: eventId, ...payload } = entry.payload;
  const event = events.find(({ id }) => id === eventId);
  const who = { customer: 'the customer', staff: 'an operator', system: 'us' }[entry.actorType];
  const because = eventId === undefined ? '' : `, because of ${eventId}${event ? ` (${event.type})` : ''}`;
  return {
    at: entry.occurredAt,
    source: entry.actorType === 'customer' ? 'api' : 'audit',
    name: entry.action,
    text: `${describePayload(payload)}by ${who}${because}`,
    details: {
      position: entry.position,
      actor_type: entry.actorType,
      target: entry.targetResourceId,
      ...entry.payload,
    },
  };
}

/** `from free to api_builder`, then whatever else the payload says. */
function describePayload({ from, to, differences, ...rest }: Readonly<Record<string, unknown>>): string {
  const change =
    to === undefined ? '' : from === undefined ? `to ${shown(to)} ` : `from ${shown(from)} to ${shown(to)} `;
  const repaired = differencesSchema.safeParse(differences);
  const found = repaired.success
    ? repaired.data.map((difference) => `${inWords(difference)}; `).join('')
    : '';
  const others = Object.entries(rest).map(
    ([name, value]) => `${name.replaceAll('_', ' ')} ${shown(value)}, `,
  );
  return `${change}${found}${others.join('')}`;
}

const differencesSchema = z.array(
  z.object({
    kind: z.enum(DIFFERENCE_KINDS),
    id: z.string().nullable(),
    ours: z.string().nullable(),
    stripe: z.string().nullable(),
    outlook: z.string().exactOptional(),
  }),
);

function shown(value: unknown): string {
  if (value === null || value === undefined) return 'none';
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}

function ofMail(mail: Email): Happening {
  const sent = mail.sentAt ? ` at ${toWireTime(mail.sentAt)}` : '';
  return {
    at: mail.createdAt,
    source: 'mail',
    name: mail.template,
    text: `to ${mail.toAddress}: ${mail.state.replaceAll('_', ' ')}${sent}${mail.error ? ` (${mail.error})` : ''}`,
    details: {
      state: mail.state,
      attempts: mail.attempts,
      natural_key: mail.naturalKey,
      error: mail.error ?? null,
    },
  };
}
