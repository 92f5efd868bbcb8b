import { LockMode } from '@mikro-orm/postgresql';
import type Stripe from 'stripe';
import type { Clock } from '../../shared/time.ts';
import type { Database, Tx } from '../database/connection.ts';
import { Account } from '../database/entities/account.ts';
import { CheckoutAttempt, Subscription, TrialPack } from '../database/entities/billing.ts';
import { StripeEvent } from '../database/entities/journal.ts';
import type { Log } from '../database/log.ts';
import { effectsOfDuplicates, endDuplicate, isMarked } from './duplicates.ts';
import { type Effect, type Source, writeEffects } from './effects.ts';
import { isHandled } from './events.ts';
import { type Fact, readFact } from './facts.ts';
import { countFailure, isOutage, reasonOf } from './failure.ts';
import type { StripeCalls, StripeGateway } from './gateway.ts';
import { readPrices } from './prices.ts';
import { type Projection, project, type SubscriptionRow } from './project.ts';
import { readPaymentFacts, readSessionFacts } from './purchase.ts';
import { type Alarm, Contradiction, recordFact } from './record-fact.ts';
import { forgetCustomer, projected, recordAlerts, writeRow } from './record-row.ts';

export type SyncDeps = {
  db: Database;
  gateway: StripeGateway;
  clock: Clock;
  log: Log;
  /** Counts what a person has to look at. */
  onAlarm?: (alarm: Alarm) => void;
};

/** Why an account is synchronised: events that wait for it, a customer back from Checkout, or an operator. */
export type Cause =
  | { kind: 'events' }
  | { kind: 'checkout_session'; sessionId: string }
  | { kind: 'reconcile'; by: string };

/** Events to be tried again, each with the reason why it could not be carried out. */
export type Failures = ReadonlyMap<string, string>;

/** Room for everything one pass asks of Stripe; others wait behind the account's lock meanwhile. */
const STRIPE_MS = 20_000;

/**
 * Brings an account to what Stripe holds now: subscription row, trial pack, attempts, audit log and mails, in
 * one transaction, and marks the events that waited for it. The account's row is locked before Stripe is read,
 * so what was read is never overtaken; called twice, or with nothing new, it changes nothing.
 *
 * An event that cannot be carried out counts an attempt and is returned; it does not hold up the others.
 * Throws when Stripe or the database cannot be reached at all: then nothing has happened.
 */
export async function synchronise(deps: SyncDeps, accountId: string, cause: Cause): Promise<Failures> {
  try {
    return await pass(deps, accountId, cause, null);
  } catch (error) {
    const pending = isOutage(error) ? [] : await pendingIds(deps.db, accountId);
    if (pending.length === 0) throw error;
    // Something that was written for one of the events was refused, and took the whole transaction with it:
    // each on its own, so that only the one at fault fails.
    const failures = new Map<string, string>();
    for (const eventId of pending) {
      try {
        for (const [id, reason] of await pass(deps, accountId, cause, eventId)) failures.set(id, reason);
      } catch (single) {
        if (isOutage(single)) throw single;
        failures.set(eventId, reasonOf(single));
        await deps.db.transaction((tx) => countFailure(tx, eventId, single));
      }
    }
    return failures;
  }
}

/**
 * One transaction, Stripe read inside it under the account's lock. Measured: a first subscription takes 16
 * statements (begin, lock, events, row, prices, insert, 3 per audit entry, 2 per mail, events, commit), an event
 * that changes nothing 7, and nothing pending 3 and no call to Stripe.
 */
async function pass(deps: SyncDeps, accountId: string, cause: Cause, only: string | null): Promise<Failures> {
  const alarms: Alarm[] = [];
  const failures = await deps.db.transaction(async (tx) => {
    const account = await tx.findOneOrFail(Account, accountId, { lockMode: LockMode.PESSIMISTIC_WRITE });
    const events = await tx.find(
      StripeEvent,
      { accountId, state: 'received', ...(only !== null && { id: only }) },
      { orderBy: { createdAt: 'asc', id: 'asc' }, exclude: ['raw'] },
    );
    if (events.length === 0 && cause.kind === 'events') return new Map<string, string>();

    const now = deps.clock.now();
    const stripe = deps.gateway.within(STRIPE_MS);
    const held = await tx.findOne(Subscription, { accountId });
    const before = held && projected(held);
    const { subscriptions, customerGone } = await readSubscriptions(stripe, account, events);
    const prices = await readPrices(tx, stripe, subscriptions, now);
    const ours = subscriptions.filter((subscription) => !isMarked(subscription));
    const projection = ended(project(ours, prices, before), before, customerGone);
    const told = await readAll(stripe, events, projection.row?.stripeSubscriptionId ?? null);
    const asked = await readAsked(tx, stripe, accountId, cause);

    for (const id of projection.duplicates) {
      const duplicate = ours.find((subscription) => subscription.id === id);
      if (!duplicate) continue;
      await endDuplicate(stripe, duplicate);
      alarms.push({ kind: 'duplicate_subscription', details: { stripe_subscription_id: id } });
    }
    const handled = subscriptions.filter(
      (subscription) => isMarked(subscription) || projection.duplicates.includes(subscription.id),
    );

    const source = sourceOf(cause, events.at(-1)?.id);
    const chosen = ours.find(({ id }) => id === projection.row?.stripeSubscriptionId) ?? null;
    const effects: Effect[] = [
      ...(await writeRow(tx, { accountId, held, after: projection.row, chosen, source, now })),
      ...recordAlerts(projection.alerts, source, alarms),
      ...(await effectsOfDuplicates(tx, stripe, handled, source)),
    ];
    const context = { tx, stripe, account, row: projection.row, chosen, subscriptions, now, alarms };
    const named = told.facts.map(({ eventId, fact }) => ({
      fact,
      eventId,
      why: { stripe_event_id: eventId },
    }));
    for (const { fact, eventId, why } of [
      ...named,
      ...asked.map((fact) => ({ fact, eventId: null, why: source })),
    ]) {
      try {
        effects.push(...(await recordFact(context, fact, why)));
      } catch (error) {
        if (!(error instanceof Contradiction)) throw error;
        alarms.push({ kind: 'contradiction', details: { ...why, reason: error.message } });
        if (eventId !== null) told.failed.set(eventId, error);
      }
    }
    if (customerGone) effects.push(...(await forgetCustomer(tx, account, { source, now })));
    await writeEffects(tx, account, effects, now);

    const done = events.filter(({ id }) => !told.failed.has(id)).map(({ id }) => id);
    if (done.length > 0) {
      const settled = { state: 'done' as const, error: null, processedAt: now };
      await tx.nativeUpdate(StripeEvent, { id: { $in: done } }, settled);
    }
    for (const [id, error] of told.failed) await countFailure(tx, id, error);
    const again = [...told.failed].filter(([, error]) => !(error instanceof Contradiction));
    return new Map(again.map(([id, error]) => [id, reasonOf(error)]));
  });
  for (const alarm of alarms) {
    deps.log.error({ accountId, ...alarm }, 'Stripe told us something that a person has to look at');
    deps.onAlarm?.(alarm);
  }
  return failures;
}

type Pending = Pick<StripeEvent, 'id' | 'type' | 'objectId'>;

async function readSubscriptions(
  stripe: StripeCalls,
  { stripeCustomerId }: Account,
  events: readonly Pending[],
): Promise<{ subscriptions: Stripe.Subscription[]; customerGone: boolean }> {
  if (!stripeCustomerId) return { subscriptions: [], customerGone: false };
  const toldGone = events.some(
    ({ type, objectId }) => type === 'customer.deleted' && objectId === stripeCustomerId,
  );
  if (toldGone) {
    const customer = await stripe.readCustomer(stripeCustomerId);
    if (customer === null || customer.deleted) return { subscriptions: [], customerGone: true };
  }
  return { subscriptions: await stripe.listSubscriptions(stripeCustomerId), customerGone: false };
}

/** Stripe ends the subscriptions of a customer it deletes, and no longer lists them. */
function ended(projection: Projection, before: SubscriptionRow | null, customerGone: boolean): Projection {
  if (!customerGone || before === null) return projection;
  const status = before.status === 'incomplete_expired' ? before.status : 'canceled';
  const over = { status, pendingTier: null, cancelAtPeriodEnd: false, entitled: false } as const;
  return { ...projection, row: { ...before, ...over } };
}

async function readAll(stripe: StripeCalls, events: readonly Pending[], subscriptionId: string | null) {
  const facts: { eventId: string; fact: Fact }[] = [];
  const failed = new Map<string, unknown>();
  for (const { id, type, objectId } of events) {
    if (!isHandled(type)) continue;
    try {
      facts.push({
        eventId: id,
        fact: await readFact(stripe, { type, objectId: objectId ?? null }, subscriptionId),
      });
    } catch (error) {
      // Stripe answered for the account just now: what fails here is this one object.
      failed.set(id, error);
    }
  }
  return { facts, failed };
}

/** What the cause itself wants looked at, beside the events. */
async function readAsked(tx: Tx, stripe: StripeCalls, accountId: string, cause: Cause): Promise<Fact[]> {
  switch (cause.kind) {
    case 'events':
      return [];
    case 'checkout_session':
      return asFacts([await readSessionFacts(stripe, cause.sessionId)]);
    case 'reconcile': {
      const state = { $in: ['open', 'closing', 'awaiting_payment'] as const };
      const attempts = await tx.find(CheckoutAttempt, { accountId, state });
      const pack = await tx.findOne(TrialPack, { accountId });
      const read = [];
      for (const { stripeSessionId } of attempts) {
        if (stripeSessionId) read.push(await readSessionFacts(stripe, stripeSessionId));
      }
      if (pack) read.push(await readPaymentFacts(stripe, pack.paymentIntent));
      return asFacts(read);
    }
  }
}

const asFacts = (read: readonly (Awaited<ReturnType<typeof readSessionFacts>> | null)[]): Fact[] =>
  read.flatMap((facts) => (facts ? [{ kind: 'session' as const, facts }] : []));

function sourceOf(cause: Cause, eventId: string | undefined): Source {
  if (eventId !== undefined) return { stripe_event_id: eventId };
  switch (cause.kind) {
    case 'events':
      return {};
    case 'checkout_session':
      return { checkout_session_id: cause.sessionId };
    case 'reconcile':
      return { reconciled_by: cause.by };
  }
}

async function pendingIds(db: Database, accountId: string): Promise<string[]> {
  const events = await db.orm.em
    .fork()
    .find(StripeEvent, { accountId, state: 'received' }, { fields: ['id'], orderBy: { createdAt: 'asc' } });
  return events.map(({ id }) => id);
}
