import type { Tx } from '../../database/connection.ts';
import type { Account } from '../../database/entities/account.ts';
import { StripeEvent } from '../../database/entities/journal.ts';
import { alarmOf } from '../alarm.ts';
import type { StripeCalls } from '../api/gateway.ts';
import type { Alarm } from '../deps.ts';
import {
  type Difference,
  differencesBetween,
  leftAlone,
  readHoldings,
  repaired,
  secondLive,
} from '../repair/drift.ts';
import type { Acts } from './act.ts';
import type { Cause } from './cause.ts';
import { followAddress } from './customer/address.ts';
import { type Effect, type Source, writeEffects } from './effects.ts';
import { countFailure, isForGood, reasonOf } from './failure.ts';
import type { Seen } from './look.ts';
import type { Ours } from './ours.ts';
import type { Outcome } from './pass.ts';
import { Contradiction, recordFact } from './record-fact.ts';
import { rememberPrices } from './subscription/prices.ts';
import { forgetCustomer, recordAlerts, writeRow } from './subscription/record-row.ts';

export type Write = {
  readonly tx: Tx;
  /** Answers without waiting, or throws. */
  readonly stripe: StripeCalls;
  /** Locked. */
  readonly account: Account;
  readonly ours: Ours;
  readonly seen: Seen;
  readonly acts: Acts;
  readonly cause: Cause;
  readonly source: Source;
  readonly now: Date;
  /** Collects what a person has to look at once this has committed. */
  readonly alarms: Alarm[];
};

/** Writes what a pass has seen and done: row, trial pack, attempts, audit log, feed, mails, and what became of the events. */
export async function write(writing: Write): Promise<{ outcome: Outcome; givenUp: readonly string[] }> {
  const { tx, account, cause, now, seen, acts } = writing;
  const before = cause.kind === 'reconcile' ? await readHoldings(tx, account.id) : null;
  const { effects, failed } = await record(writing);
  await writeEffects(tx, account, effects, now);

  const differences: Difference[] = [];
  if (before !== null && cause.kind === 'reconcile') {
    differences.push(...differencesBetween(before, await readHoldings(tx, account.id)));
    for (const id of seen.projection.duplicates) differences.push(...secondLive(id, acts.outlooks.get(id)));
    await writeEffects(tx, account, repaired(account, cause.by, differences), now);
    // Not a repair: these stay as they are, night after night, until a person has decided.
    for (const alert of acts.alerts)
      if (alert.kind === 'duplicate_left')
        differences.push(...secondLive(alert.stripeSubscriptionId, leftAlone(alert)));
  }
  const { failures, givenUp } = await settle(writing, failed);
  await rememberPrices(tx, seen.learned, now);
  return { outcome: { failures, differences }, givenUp };
}

/** Writes the row, and returns what else there is to write, and the events that failed. */
async function record(writing: Write): Promise<{ effects: Effect[]; failed: ReadonlyMap<string, unknown> }> {
  const { tx, stripe, account, ours, seen, acts, source, now, alarms } = writing;
  const { subscriptions, customerGone, prices, projection, chosen, facts, planChangedAt } = seen;
  const { row, former } = projection;
  const { surplus, late } = acts;
  const change = {
    ...{ accountId: account.id, held: ours.held, after: row, former },
    ...{ chosen, subscriptions, planChangedAt, source, now },
  };
  const effects: Effect[] = [
    ...(seen.customer ? await followAddress(writing, seen.customer, source) : []),
    ...(await writeRow(tx, change)),
    ...(await recordAlerts(tx, acts.alerts, source, alarms)),
    ...acts.duplicates,
  ];
  const failed = new Map(seen.failed);
  const context = {
    ...{ tx, stripe, account, row, chosen, subscriptions, surplus, late, prices, now, alarms, effects },
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
  return { effects, failed };
}

/** Marks the events as done or tried once more; returns those that another try may help, and those given up now. */
async function settle(
  { tx, ours: { events }, now, alarms }: Write,
  failed: ReadonlyMap<string, unknown>,
): Promise<{ failures: ReadonlyMap<string, string>; givenUp: readonly string[] }> {
  const done = events.filter(({ id }) => !failed.has(id)).map(({ id }) => id);
  if (done.length > 0) {
    const settled = { state: 'done' as const, error: null, processedAt: now };
    await tx.nativeUpdate(StripeEvent, { id: { $in: done } }, settled);
  }
  const givenUp: string[] = [];
  for (const [id, error] of failed) {
    const alarm = alarmOf(error);
    if (alarm) alarms.push({ ...alarm, details: { ...alarm.details, stripe_event_id: id } });
    if (await countFailure(tx, id, error, { now })) givenUp.push(id);
  }
  const again = [...failed].filter(([id, error]) => !isForGood(error) && !givenUp.includes(id));
  return { failures: new Map(again.map(([id, error]) => [id, reasonOf(error)])), givenUp };
}
