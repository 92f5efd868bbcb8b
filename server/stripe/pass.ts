import type Stripe from 'stripe';
import type { Tx } from '../database/connection.ts';
import type { Account } from '../database/entities/account.ts';
import { Subscription } from '../database/entities/billing.ts';
import { StripeEvent } from '../database/entities/journal.ts';
import { lockAccount } from '../database/locks.ts';
import { followAddress } from './address.ts';
import { alarmOf, raise } from './alarm.ts';
import { catalogueOf } from './catalogue.ts';
import { type Cause, sourceOf } from './cause.ts';
import type { Alarm, SyncDeps } from './deps.ts';
import {
  type Difference,
  differencesBetween,
  leftAlone,
  readHoldings,
  repaired,
  secondLive,
} from './drift.ts';
import { undone, withoutEffect } from './dry-run.ts';
import { effectsOfDuplicates, type Outlooks } from './duplicates.ts';
import { type Effect, type Source, writeEffects } from './effects.ts';
import type { Fact } from './facts.ts';
import { countFailure, isForGood, reasonOf } from './failure.ts';
import type { StripeCalls } from './gateway.ts';
import { readPrices, rememberPrices } from './prices.ts';
import { type Alert, isLive, type Projection, planOf, project } from './project.ts';
import {
  ended,
  overAndUnlisted,
  readAll,
  readAsked,
  readPlanChange,
  readSubscriptions,
  understood,
} from './readings.ts';
import { Contradiction, recordFact } from './record-fact.ts';
import { forgetCustomer, projected, recordAlerts, writeRow } from './record-row.ts';
import type { PriceMap } from './schedule.ts';
import { endSecond } from './second.ts';
import { isMarked, readUnlisted, type Surplus } from './surplus.ts';

/** What one pass came to: events to be tried again, and what it found to differ where it was to compare. */
export type Outcome = { failures: Failures; differences: readonly Difference[] };

/** Events to be tried again, each with the reason why it could not be carried out. */
export type Failures = ReadonlyMap<string, string>;

/**
 * How a pass goes about it: with these events only (null: all that wait), or only to see what it would change, and
 * for how long it may read Stripe, while others wait behind the account's lock.
 */
export type Terms = { only: readonly string[] | null; dryRun: boolean; stripeMs: number };

/**
 * One transaction, Stripe read inside it under the account's lock. A first subscription takes 10 statements
 * (begin, lock, events, row, prices, insert, 2 for audit entries, customer's event and mail, events, commit), an
 * event that changes nothing 7, and nothing pending 4 and no call to Stripe.
 * A dry run does all of it except for what would change something at Stripe, and is rolled back.
 */
export async function pass(
  deps: SyncDeps,
  accountId: string,
  cause: Cause,
  { only, dryRun, stripeMs }: Terms,
): Promise<Outcome> {
  const { db, gateway, clock } = deps;
  const alarms: Alarm[] = [];
  const work = async (tx: Tx): Promise<Outcome> => {
    const account = await lockAccount(tx, accountId);
    if (!account) throw new Error(`Account ${accountId} is not in the database`);
    const events = await waitingEvents(tx, accountId, only);
    if (events.length === 0 && cause.kind === 'events') return { failures: new Map(), differences: [] };
    const calls = gateway.within(stripeMs);
    const stripe = dryRun ? withoutEffect(calls) : calls;
    const source = sourceOf(cause, events.at(-1)?.id);
    return await carryOut({ tx, stripe, account, events, cause, source, now: clock.now(), alarms });
  };
  if (dryRun) return await undone(db, accountId, work);
  const outcome = await db.transactionOn(accountId, work);
  for (const alarm of alarms) raise(deps, accountId, alarm);
  return outcome;
}

type Waiting = Awaited<ReturnType<typeof waitingEvents>>;

async function waitingEvents(tx: Tx, accountId: string, only: Terms['only']) {
  return await tx.find(
    StripeEvent,
    { accountId, state: 'received', ...(only !== null && { id: { $in: [...only] } }) },
    // What has failed before comes last, so that it does not eat up the time of the others.
    { orderBy: { attempts: 'asc', createdAt: 'asc', id: 'asc' }, exclude: ['raw'] },
  );
}

type Pass = {
  readonly tx: Tx;
  readonly stripe: StripeCalls;
  /** Locked. */
  readonly account: Account;
  readonly events: Waiting;
  readonly cause: Cause;
  readonly source: Source;
  readonly now: Date;
  /** Collects what a person has to look at once this has committed. */
  readonly alarms: Alarm[];
};

async function carryOut(pass: Pass): Promise<Outcome> {
  const { tx, account, cause, now } = pass;
  const before = cause.kind === 'reconcile' ? await readHoldings(tx, account.id) : null;
  const held = await tx.findOne(Subscription, { accountId: account.id });
  const seen = await look(pass, held);
  const { surplus, left } = await endSecond(pass, seen);
  const alerts = [...seen.projection.alerts, ...left];
  const { effects, outlooks, failed } = await record(pass, held, seen, { surplus, alerts });
  await writeEffects(tx, account, effects, now);

  const differences: Difference[] = [];
  if (before !== null && cause.kind === 'reconcile') {
    differences.push(...differencesBetween(before, await readHoldings(tx, account.id)));
    for (const id of seen.projection.duplicates) differences.push(...secondLive(id, outlooks.get(id)));
    await writeEffects(tx, account, repaired(account, cause.by, differences), now);
    // Not a repair: these stay as they are, night after night, until a person has decided.
    for (const alert of alerts)
      if (alert.kind === 'duplicate_left')
        differences.push(...secondLive(alert.stripeSubscriptionId, leftAlone(alert)));
  }
  const failures = await settle(pass, failed);
  await rememberPrices(tx);
  return { failures, differences };
}

/** What Stripe holds about the account and about each event, as of now. */
type Seen = {
  readonly subscriptions: readonly Stripe.Subscription[];
  readonly customerGone: boolean;
  /** Second ones that we ended, and Stripe does not list any more. */
  readonly unlisted: readonly Surplus[];
  /** The customer itself, where we were told of a change of it or are to compare. */
  readonly customer: Stripe.Customer | null;
  readonly projection: Projection;
  /** The subscription that the row is projected from. */
  readonly chosen: Stripe.Subscription | null;
  readonly prices: PriceMap;
  /** When its plan changed, where it did and Stripe says so. */
  readonly planChangedAt: Date | null;
  readonly facts: readonly { fact: Fact; eventId: string | null }[];
  /** The events whose objects could not be read. */
  readonly failed: ReadonlyMap<string, unknown>;
};

async function look(pass: Pass, held: Subscription | null): Promise<Seen> {
  const { tx, stripe, account, events, cause, now } = pass;
  const { customer, ...read } = await readSubscriptions(stripe, account, events, cause);
  const { subscriptions, customerGone } = read;
  const prices = await readPrices(tx, stripe, subscriptions, now);
  const unlisted = await readUnlisted(stripe, overAndUnlisted(events, subscriptions));
  const ours = subscriptions.filter((subscription) => !isMarked(subscription));
  const before = held && projected(held);
  const projection = ended(project(ours, prices, before), before, customerGone);
  const chosenId = projection.row?.stripeSubscriptionId ?? null;
  const chosen = ours.find(({ id }) => id === chosenId) ?? null;
  const planChangedAt = await readPlanChange(stripe, prices, { before, after: projection.row, chosen });
  const known = {
    catalogue: catalogueOf(tx, stripe, now),
    ours: understood(subscriptions, prices, chosenId),
  };
  const told = await readAll(stripe, events, { ...known, chosen });
  const asked = await readAsked(tx, stripe, account, { cause, known, now });
  return {
    ...read,
    unlisted,
    customer,
    prices,
    projection,
    chosen,
    planChangedAt,
    facts: [...told.facts, ...asked.map((fact) => ({ fact, eventId: null }))],
    failed: told.failed,
  };
}

/** Writes the row, and returns what else there is to write, and the events that failed. */
async function record(
  pass: Pass,
  held: Subscription | null,
  seen: Seen,
  { surplus, alerts }: { surplus: readonly Surplus[]; alerts: readonly Alert[] },
): Promise<{ effects: Effect[]; outlooks: Outlooks; failed: ReadonlyMap<string, unknown> }> {
  const { tx, stripe, account, cause, source, now, alarms } = pass;
  const { subscriptions, customerGone, prices, projection, chosen, facts } = seen;
  const { row, former } = projection;
  const duplicates = await effectsOfDuplicates({ tx, stripe, alarms }, surplus, {
    source,
    anew: cause.kind === 'reconcile',
    planOf: (subscription) => planOf(subscription, prices),
    kept: row && isLive(row.status) ? { tier: row.tier, billingPeriod: row.billingPeriod } : null,
  });
  const { planChangedAt } = seen;
  const change = { accountId: account.id, held, after: row, former, chosen, subscriptions, planChangedAt };
  const effects: Effect[] = [
    ...(seen.customer ? await followAddress(pass, seen.customer, source) : []),
    ...(await writeRow(tx, { ...change, source, now })),
    ...recordAlerts(alerts, source, alarms),
    ...duplicates.effects,
  ];
  const failed = new Map(seen.failed);
  const context = { tx, stripe, account, row, chosen, subscriptions, surplus, prices, now, alarms };
  for (const { fact, eventId } of facts) {
    const why = eventId === null ? source : { stripe_event_id: eventId };
    try {
      effects.push(...(await recordFact(context, fact, why)));
    } catch (error) {
      if (!(error instanceof Contradiction)) throw error;
      alarms.push({ kind: 'contradiction', details: { ...why, reason: error.message } });
      if (eventId !== null) failed.set(eventId, error);
    }
  }
  if (customerGone) effects.push(...(await forgetCustomer(tx, account, { source, now })));
  return { effects, outlooks: duplicates.outlooks, failed };
}

/** Marks the events as done or tried once more; returns those that another try may help. */
async function settle(
  { tx, events, now, alarms }: Pass,
  failed: ReadonlyMap<string, unknown>,
): Promise<Failures> {
  const done = events.filter(({ id }) => !failed.has(id)).map(({ id }) => id);
  if (done.length > 0) {
    const settled = { state: 'done' as const, error: null, processedAt: now };
    await tx.nativeUpdate(StripeEvent, { id: { $in: done } }, settled);
  }
  for (const [id, error] of failed) {
    const alarm = alarmOf(error);
    if (alarm) alarms.push({ ...alarm, details: { ...alarm.details, stripe_event_id: id } });
    await countFailure(tx, id, error);
  }
  const again = [...failed].filter(([, error]) => !isForGood(error));
  return new Map(again.map(([id, error]) => [id, reasonOf(error)]));
}
