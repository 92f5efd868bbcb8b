import type { Clock } from '../../shared/time.ts';
import type { Database, Tx } from '../database/connection.ts';
import type { Account } from '../database/entities/account.ts';
import { Subscription } from '../database/entities/billing.ts';
import { StripeEvent } from '../database/entities/journal.ts';
import { lockAccount } from '../database/locks.ts';
import type { Log } from '../database/log.ts';
import type { Cause } from './cause.ts';
import { type Difference, differencesBetween, readHoldings } from './drift.ts';
import { effectsOfDuplicates, endDuplicate, isMarked } from './duplicates.ts';
import { type Effect, type Source, writeEffects } from './effects.ts';
import { countFailure, isOutage, reasonOf } from './failure.ts';
import type { StripeCalls, StripeGateway } from './gateway.ts';
import { readPrices } from './prices.ts';
import { project } from './project.ts';
import { ended, readAll, readAsked, readSubscriptions } from './readings.ts';
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

/** What one pass came to: events to be tried again, and what it found to differ where it was to compare. */
export type Outcome = { failures: Failures; differences: readonly Difference[] };

/** How a pass goes about it: with these events only (null: all that wait), or only to see what it would change. */
export type Terms = { only: readonly string[] | null; dryRun: boolean };

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
    return (await pass(deps, accountId, cause, { only: null, dryRun: false })).failures;
  } catch (error) {
    const pending = isOutage(error) ? [] : await pendingIds(deps.db, accountId);
    if (pending.length === 0) throw error;
    // Something that was written for one of the events was refused, and took the whole transaction with it:
    // each on its own, so that only the one at fault fails.
    const failures = new Map<string, string>();
    for (const eventId of pending) {
      try {
        const alone = await pass(deps, accountId, cause, { only: [eventId], dryRun: false });
        for (const [id, reason] of alone.failures) failures.set(id, reason);
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
 * A dry run does all of it except for what would change something at Stripe, and is rolled back.
 */
export async function pass(
  deps: SyncDeps,
  accountId: string,
  cause: Cause,
  { only, dryRun }: Terms,
): Promise<Outcome> {
  const alarms: Alarm[] = [];
  const work = async (tx: Tx): Promise<Outcome> => {
    const account = await lockAccount(tx, accountId);
    if (!account) throw new Error(`Account ${accountId} is not in the database`);
    const events = await tx.find(
      StripeEvent,
      { accountId, state: 'received', ...(only !== null && { id: { $in: [...only] } }) },
      // What has failed before comes last, so that it does not eat up the time of the others.
      { orderBy: { attempts: 'asc', createdAt: 'asc', id: 'asc' }, exclude: ['raw'] },
    );
    if (events.length === 0 && cause.kind === 'events') return { failures: new Map(), differences: [] };

    const now = deps.clock.now();
    const stripe = dryRun ? withoutEffect(deps.gateway.within(STRIPE_MS)) : deps.gateway.within(STRIPE_MS);
    const holdings = cause.kind === 'reconcile' ? await readHoldings(tx, accountId) : null;
    const held = await tx.findOne(Subscription, { accountId });
    const before = held && projected(held);
    const { subscriptions, customerGone } = await readSubscriptions(stripe, account, events, cause);
    const prices = await readPrices(tx, stripe, subscriptions, now);
    const ours = subscriptions.filter((subscription) => !isMarked(subscription));
    const projection = ended(project(ours, prices, before), before, customerGone);
    const told = await readAll(stripe, events, projection.row?.stripeSubscriptionId ?? null);
    const asked = await readAsked(tx, stripe, account, cause);

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
      ...(await effectsOfDuplicates(tx, stripe, handled, { source, anew: cause.kind === 'reconcile' })),
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

    const differences =
      holdings === null
        ? []
        : differencesBetween(holdings, await readHoldings(tx, accountId), projection.duplicates);
    // What the events at hand explain has not drifted.
    if (cause.kind === 'reconcile' && events.length === 0) {
      await writeEffects(tx, account, repaired(account, cause.by, differences), now);
    }
    const done = events.filter(({ id }) => !told.failed.has(id)).map(({ id }) => id);
    if (done.length > 0) {
      const settled = { state: 'done' as const, error: null, processedAt: now };
      await tx.nativeUpdate(StripeEvent, { id: { $in: done } }, settled);
    }
    for (const [id, error] of told.failed) await countFailure(tx, id, error);
    const again = [...told.failed].filter(([, error]) => !(error instanceof Contradiction));
    return { failures: new Map(again.map(([id, error]) => [id, reasonOf(error)])), differences };
  };
  if (dryRun) return await undone(deps.db, work);
  const outcome = await deps.db.transaction(work);
  for (const alarm of alarms) {
    deps.log.error({ accountId, ...alarm }, 'Stripe told us something that a person has to look at');
    deps.onAlarm?.(alarm);
  }
  return outcome;
}

/** Carries the outcome out of a transaction that is rolled back for its sake. */
class Undone extends Error {
  override readonly name = 'Undone';
  readonly outcome: Outcome;

  constructor(outcome: Outcome) {
    super('This transaction was a dry run.');
    this.outcome = outcome;
  }
}

async function undone(db: Database, work: (tx: Tx) => Promise<Outcome>): Promise<Outcome> {
  try {
    return await db.transaction(async (tx) => {
      throw new Undone(await work(tx));
    });
  } catch (error) {
    if (error instanceof Undone) return error.outcome;
    throw error;
  }
}

/** The two calls by which a pass changes something at Stripe. */
function withoutEffect(stripe: StripeCalls): StripeCalls {
  return { ...stripe, refund: async () => 'nothing_left', cancelSubscription: async () => null };
}

/** One entry for the whole repair. It is named by where the audit log stood before, under the account's lock. */
function repaired(
  { id, auditPosition }: Account,
  by: string,
  differences: readonly Difference[],
): readonly Effect[] {
  if (differences.length === 0) return [];
  const key = `reconciled:${id}:${auditPosition}`;
  const payload = { by, differences };
  return [{ kind: 'audit', key, action: 'operator.reconciled', target: null, payload }];
}

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
