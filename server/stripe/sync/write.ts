import type { Tx } from '../../database/connection.ts';
import type { LockedAccount } from '../../database/locks.ts';
import type { Draft } from '../../journal/drafts.ts';
import { alarmOf } from '../alarm.ts';
import type { StripeCalls } from '../api/gateway.ts';
import type { Alarm } from '../deps.ts';
import {
  type Difference,
  differencesBetween,
  type Holdings,
  leftAlone,
  readHoldings,
  repaired,
  secondLive,
} from '../repair/drift.ts';
import type { Acts } from './act.ts';
import type { Cause } from './cause.ts';
import { followAddress } from './customer/address.ts';
import { draftsOf, type Effect, type Source } from './effects.ts';
import { countFailure, isForGood, reasonOf } from './failure.ts';
import type { Seen } from './look.ts';
import type { Ours } from './ours.ts';
import { Contradiction, recordFact } from './record-fact.ts';
import type { NewRow } from './subscription/columns.ts';
import { forgetCustomer, nextRow, recordAlerts } from './subscription/record-row.ts';

export type Write = {
  readonly tx: Tx;
  /** Answers without waiting, or throws. */
  readonly stripe: StripeCalls;
  /** Locked. */
  readonly account: LockedAccount;
  readonly ours: Ours;
  readonly seen: Seen;
  readonly acts: Acts;
  readonly cause: Cause;
  readonly source: Source;
  readonly now: Date;
  /** Collects what a person has to look at once this has committed. */
  readonly alarms: Alarm[];
};

/** What a pass has come to, as far as it is left to be written: with that of others, or not at all. */
export type Recorded = {
  /** Null where it stays as it is. */
  readonly row: NewRow | null;
  readonly drafts: readonly Draft[];
  /** The events that could not be carried out. */
  readonly failed: ReadonlyMap<string, unknown>;
  /** What we held before, where that is to be compared. */
  readonly before: Holdings | null;
};

/**
 * Goes through what a pass has seen and done: what becomes of the row, audit log, feed and mails is returned. Trial
 * pack, attempts, address and a lost customer are written at once, as they are rare.
 */
export async function record(writing: Write): Promise<Recorded> {
  const { tx, account, cause, now } = writing;
  const before = cause.kind === 'reconcile' ? await readHoldings(tx, account.id) : null;
  const { row, effects, failed } = await recordEffects(writing);
  return { row, drafts: draftsOf(account, effects, now), failed, before };
}

async function recordEffects(
  writing: Write,
): Promise<{ row: NewRow | null; effects: readonly Effect[]; failed: ReadonlyMap<string, unknown> }> {
  const { tx, stripe, account, ours, seen, acts, source, now, alarms } = writing;
  const { subscriptions, customerGone, prices, projection, chosen, facts, planChangedAt } = seen;
  const { row: after, former } = projection;
  const { surplus, late } = acts;
  const change = {
    ...{ accountId: account.id, held: ours.held, after, former },
    ...{ chosen, subscriptions, planChangedAt, source, now },
  };
  const addressed = seen.customer ? await followAddress(writing, seen.customer, source) : [];
  const next = nextRow(change);
  const effects: Effect[] = [
    ...addressed,
    ...next.effects,
    ...(await recordAlerts(tx, acts.alerts, source, alarms)),
    ...acts.duplicates,
  ];
  const failed = new Map(seen.failed);
  const context = {
    ...{
      tx,
      stripe,
      account,
      row: after,
      chosen,
      subscriptions,
      surplus,
      late,
      prices,
      now,
      alarms,
      effects,
    },
  };
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
  return { row: next.row, effects, failed };
}

/** What has changed since `before`, once row and facts are written, with what is to be written about that itself. */
export async function compare(
  { tx, account, cause, seen, acts, now }: Write,
  before: Holdings,
): Promise<{ differences: readonly Difference[]; drafts: readonly Draft[] }> {
  if (cause.kind !== 'reconcile') return { differences: [], drafts: [] };
  const differences = [...differencesBetween(before, await readHoldings(tx, account.id))];
  for (const id of seen.projection.duplicates) differences.push(...secondLive(id, acts.outlooks.get(id)));
  const drafts = draftsOf(account, repaired(account, cause.by, differences), now);
  // Not a repair: these stay as they are, night after night, until a person has decided.
  for (const alert of acts.alerts)
    if (alert.kind === 'duplicate_left')
      differences.push(...secondLive(alert.stripeSubscriptionId, leftAlone(alert)));
  return { differences, drafts };
}

/** What becomes of the events of a pass. */
export type Fates = {
  readonly done: readonly string[];
  /** Those that another try may help, and why. */
  readonly failures: ReadonlyMap<string, string>;
  readonly givenUp: readonly string[];
};

/** Counts the events that failed, of which some are given up now. */
export async function decideFates(
  { tx, ours: { events }, now, alarms }: Write,
  failed: ReadonlyMap<string, unknown>,
): Promise<Fates> {
  const givenUp: string[] = [];
  for (const [id, error] of failed) {
    const alarm = alarmOf(error);
    if (alarm) alarms.push({ ...alarm, details: { ...alarm.details, stripe_event_id: id } });
    if (await countFailure(tx, id, error, { now })) givenUp.push(id);
  }
  const again = [...failed].filter(([id, error]) => !isForGood(error) && !givenUp.includes(id));
  return {
    done: events.filter(({ id }) => !failed.has(id)).map(({ id }) => id),
    failures: new Map(again.map(([id, error]) => [id, reasonOf(error)])),
    givenUp,
  };
}
