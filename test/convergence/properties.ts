import type Stripe from 'stripe';
import { expect } from 'vitest';
import { verifyChain } from '../../server/audit/verify.ts';
import { Account } from '../../server/database/entities/account.ts';
import { CheckoutAttempt, Subscription, TrialPack } from '../../server/database/entities/billing.ts';
import { AuditEntry, Email, StripeEvent } from '../../server/database/entities/journal.ts';
import type { World } from '../../server/local-stripe/world.ts';
import { reconcile } from '../../server/stripe/repair/reconcile.ts';
import { addressIsStripes } from './addresses.ts';
import { paidCharges, refundsOf } from './customer.ts';
import { countEnding } from './endings.ts';
import { QUIET } from './lane.ts';
import { member, momentsAreStripes } from './moments.ts';
import {
  barePayments,
  type Expected,
  endedByUs,
  endedInOneSecond,
  expectedPack,
  expectedRow,
  isLive,
  type PackSale,
  packsPaid,
} from './oracle.ts';
import type { Ending } from './story.ts';
import { chargesFor, isAside, mostByCharge, shareIsGivenBack } from './surplus.ts';

/** Throws unless everything that has to hold once all has come to rest does hold. */
export async function judge(ending: Ending): Promise<void> {
  const { lane, accountId, customer } = ending;
  const [process] = lane.processes;
  if (!process) throw new Error('a lane has two processes');
  const { db } = process;
  expect(await verifyChain(db, accountId), 'the audit chain is whole').toBeNull();
  if (customer === null) return countEnding(ending, { log: [], mails: [], pack: null });
  const em = db.orm.em.fork();
  const log = await em.find(AuditEntry, { accountId }, { orderBy: { position: 'asc' } });
  const mails = await em.find(Email, { accountId });
  const row = await em.findOne(Subscription, { accountId });
  const pack = await em.findOne(TrialPack, { accountId });
  const attempts = await em.find(CheckoutAttempt, { accountId });
  const account = await em.findOneOrFail(Account, accountId);

  rowIsProjection(ending, customer, row);
  logTellsTheChanges(ending, log, row);
  mailsFollowTheLog(log, mails);
  attemptsAreTold(ending, log, mails);
  addressIsStripes(ending, account.email, log, mails);
  momentsAreStripes(ending, customer, log, mails, row);
  await eventsAreDone(ending);
  receiptsArePaidInvoices(ending, customer, log, mails);
  moneyIsSafe(ending, customer, pack, log);
  sessionsAreExclusive(ending, customer, attempts);
  expect(account.stripeCustomerId, 'one customer').toBe(customer);
  expect([...lane.localStripe.world.newestFirst('customer')].length, 'one customer').toBe(1);
  packIsProjection(ending, customer, pack);
  const { rows } = await db.pool.query<{ sum: number }>(
    'select coalesce(sum(seconds), 0)::float8 as sum from credit_entry where account_id = $1',
    [accountId],
  );
  expect(rows[0]?.sum, 'the ledger adds up to the balance').toBe(pack?.remainingSeconds ?? 0);
  await nightSeesBarePayments(ending, customer);
  countEnding(ending, { log: await em.find(AuditEntry, { accountId }), mails, pack });

  async function eventsAreDone({ dropped }: Ending): Promise<void> {
    const events = await em.find(StripeEvent, { customerId: customer }, { exclude: ['raw'] });
    const states = new Set(events.map(({ state, error }) => `${state} ${error ?? ''}`.trim()));
    expect(
      [...states].filter((state) => state !== 'done'),
      'every event was carried out',
    ).toEqual([]);
    const arrived = new Set(events.map(({ id }) => id));
    expect(
      dropped.filter(({ id }) => arrived.has(id)),
      'dropped means dropped',
    ).toEqual([]);
  }
}

/** The night tells of each payment that is for nothing we know and was not given back; one more night tells no more. */
async function nightSeesBarePayments({ lane, accountId }: Ending, customer: string): Promise<void> {
  const { world } = lane.localStripe;
  const [process] = lane.processes;
  const bare = barePayments(world, customer);
  if (!process || bare.length === 0) return;
  const clock = { now: () => new Date(lane.time.ms) };
  for (let night = 0; night < 2; night++)
    await reconcile({ ...process, clock, log: QUIET }, accountId, { by: 'convergence' });
  const entries = await process.db.orm.em
    .fork()
    .find(AuditEntry, { accountId, action: 'payment.unrecognised' });
  const told = entries
    .filter(({ payload }) => payload['reason'] !== 'refunded_in_part')
    .map(({ targetResourceId, payload }) => [targetResourceId, payload['amount_cents']]);
  const shown = (charges: readonly Stripe.Charge[]) =>
    charges.map(({ payment_intent: intent, amount }) => [intent, amount]);
  const recent = lane.time.ms / 1_000 - 80 * 86_400;
  const kept = bare.filter((one) => one.amount > one.amount_refunded && one.created > recent);
  expect(told, 'what is for nothing is told').toEqual(expect.arrayContaining(shown(kept)));
  expect(shown(bare), 'nothing else is').toEqual(expect.arrayContaining(told));
  expect(new Set(told.map(([intent]) => intent)).size, 'each once').toBe(told.length);
}

function rowIsProjection({ lane }: Ending, customer: string, row: Subscription | null): void {
  const ours = row && shown(row);
  expect(ours, 'our row is the projection of what Stripe holds').toEqual(
    expectedRow(lane.localStripe.world, customer),
  );
}

function shown(row: Subscription): Expected {
  const { stripeSubscriptionId, tier, pendingTier = null, status, billingPeriod, entitled } = row;
  const { pendingBillingPeriod, pendingChangesAt, endsAt, endedAt } = row;
  return {
    stripeSubscriptionId,
    tier,
    pending: pendingTier && {
      tier: pendingTier,
      period: pendingBillingPeriod ?? '',
      at: pendingChangesAt?.toISOString() ?? '',
    },
    status,
    billingPeriod,
    currentPeriodStart: row.currentPeriodStart.toISOString(),
    currentPeriodEnd: row.currentPeriodEnd.toISOString(),
    cancelAtPeriodEnd: row.cancelAtPeriodEnd,
    endsAt: endsAt?.toISOString() ?? null,
    endedAt: endedAt?.toISOString() ?? null,
    entitled,
  };
}

function logTellsTheChanges(
  { lane, history, customer }: Ending,
  log: readonly AuditEntry[],
  row: Subscription | null,
): void {
  expect(log.map(({ position }) => position)).toEqual(log.map((_, index) => index + 1));
  const steps = (action: string) =>
    log.filter((entry) => entry.action === action).map(({ payload }) => [payload['from'], payload['to']]);

  const tiers = steps('subscription.tier_changed');
  expect(chained(tiers, null), 'each tier follows on the one before').toEqual([]);
  const granted = row?.entitled ? row.tier : null;
  expect(tiers.at(-1)?.[1] ?? null, 'the log ends with the tier that holds').toBe(granted);
  const granting = history.map((state) => (state.entitled ? state.tier : null));
  expect(
    isSubsequence(
      tiers.map(([, to]) => to),
      granting,
    ),
    'Stripe went through these tiers',
  ).toBe(true);

  const statuses = steps('subscription.status_changed');
  expect(chained(statuses, null), 'each status follows on the one before').toEqual([]);
  expect(statuses.at(-1)?.[1] ?? null, 'the log ends with the status that holds').toBe(row?.status ?? null);
  const passed = history.map(({ status }) => status);
  expect(
    isSubsequence(
      statuses.map(([, to]) => to),
      passed,
    ),
    'Stripe went through these statuses',
  ).toBe(true);

  const periods = steps('subscription.billing_period_changed');
  if (customer === null || !endedInOneSecond(lane.localStripe.world, customer))
    expect(chained(periods, periods[0]?.[0] ?? null), 'each period follows on the one before').toEqual([]);

  const plans = log.filter(({ action }) => /cancel_(un)?scheduled$/.test(action)).map(({ action }) => action);
  for (const [index, action] of plans.entries())
    if (action === 'subscription.cancel_unscheduled')
      expect(plans[index - 1], 'only what was scheduled is undone').toBe('subscription.cancel_scheduled');
}

/** The steps that do not begin where the one before ended, or lead nowhere. */
function chained(steps: readonly unknown[][], first: unknown): unknown[] {
  return steps.filter(
    ([from, to], index) => from !== (index === 0 ? first : steps[index - 1]?.[1]) || from === to,
  );
}

function isSubsequence(wanted: readonly unknown[], all: readonly unknown[]): boolean {
  let at = 0;
  for (const one of all) if (at < wanted.length && one === wanted[at]) at += 1;
  return at === wanted.length;
}

function mailsFollowTheLog(log: readonly AuditEntry[], mails: readonly Email[]): void {
  const statuses = log
    .filter(({ action }) => action === 'subscription.status_changed')
    .map(({ payload }) => [String(payload['from']), String(payload['to'])] as const);
  const count = (template: string) => mails.filter((mail) => mail.template === template).length;
  const ended = statuses.filter(([from, to]) => isLive(from) && !isLive(to));
  const started = statuses.filter(([from, to]) => !isLive(from) && isLive(to));
  expect(count('subscription_ended'), 'one mail for each end').toBe(ended.length);
  expect(count('subscription_started'), 'one mail for each beginning').toBe(started.length);
  const surplus = log.filter(({ action }) => /duplicate_(canceled|refunded)$/.test(action));
  const told = mails.filter(({ template }) => template === 'duplicate_purchase_refunded');
  expect(told.map(({ naturalKey }) => naturalKey).sort(), 'one mail for each surplus purchase').toEqual(
    surplus.map(({ dedupeKey }) => dedupeKey).sort(),
  );
}

/**
 * One mail for each attempt to collect an invoice that did not go through, whichever of the two it is, and none for
 * a subscription that we ended as a second one.
 */
function attemptsAreTold({ lane }: Ending, log: readonly AuditEntry[], mails: readonly Email[]): void {
  const { world } = lane.localStripe;
  const attempts = (keys: readonly string[]) =>
    keys.map((key) => /:(in_.*:\d+)$/.exec(key)?.[1] ?? `no attempt: ${key}`).sort();
  const told = attempts(
    mails
      .filter(({ template }) => template === 'payment_failed' || template === 'payment_action_required')
      .map(({ naturalKey }) => naturalKey),
  );
  const written = attempts(
    log
      .filter(
        ({ action }) => action === 'invoice.payment_failed' || action === 'invoice.payment_action_required',
      )
      .map(({ dedupeKey }) => dedupeKey),
  );
  const surplus = new Set(
    log
      .filter(({ action }) => action === 'subscription.duplicate_canceled')
      .map((entry) => entry.targetResourceId),
  );
  const asked = [...new Set(written)].filter((attempt) => {
    const [id = ''] = attempt.split(':');
    return !surplus.has(
      world.get('invoice', id).parent?.subscription_details?.subscription?.toString() ?? null,
    );
  });
  const asksNobody = written.filter((attempt) => !asked.includes(attempt));
  expect(new Set(told).size, 'one mail for each attempt that did not go through').toBe(told.length);
  expect(
    told.filter((attempt) => !asksNobody.includes(attempt)),
    'a mail for each attempt that did not go through',
  ).toEqual(asked);
}

function receiptsArePaidInvoices(
  { lane, dropped }: Ending,
  customer: string,
  log: readonly AuditEntry[],
  mails: readonly Email[],
): void {
  const missed = new Set(
    dropped.filter(({ type }) => type === 'invoice.paid').map(({ body }) => JSON.parse(body).data.object.id),
  );
  const paid = lane.localStripe.world
    .ofCustomer('invoice', customer)
    .filter(({ id, status }) => status === 'paid' && !missed.has(id));
  const known = (key: string) => !missed.has(key.slice('paid:'.length));
  const receipts = mails
    .filter(({ template }) => template === 'payment_receipt')
    .map((mail) => mail.naturalKey);
  const due = paid.filter(({ amount_paid }) => amount_paid > 0).map(({ id }) => `paid:${id}`);
  expect(receipts.filter(known).sort(), 'a receipt for each paid invoice').toEqual(due.sort());
  const entries = log.filter(({ action }) => action === 'invoice.paid').map(({ dedupeKey }) => dedupeKey);
  expect(entries.filter(known).sort(), 'an entry for each paid invoice').toEqual(
    paid.map(({ id }) => `paid:${id}`).sort(),
  );
}

function moneyIsSafe(
  { lane, surplusEnds, raced }: Ending,
  customer: string,
  pack: TrialPack | null,
  log: readonly AuditEntry[],
): void {
  const { world } = lane.localStripe;
  const subscriptions = world.ofCustomer('subscription', customer);
  const living = subscriptions.filter(({ status }) => isLive(status));
  // Where one of them is to end by itself, or is paused, a person has been told instead.
  if (living.some((one) => isAside(world, one)))
    expect(told(log), 'a person is told').toEqual(expect.arrayContaining(pairsOf(living)));
  else expect(living.length, 'at most one subscription lives').toBeLessThanOrEqual(1);
  const extra = packsPaid(world, customer).filter(({ id }) => id !== pack?.stripeSessionId);
  for (const end of surplusEnds) {
    if (!raced) expect(end, 'nothing is ended beside what ends by itself').toMatchObject({ aside: false });
    if (!raced) shareIsGivenBack(world, end, extra);
  }

  const sentBack = new Set<unknown>(
    refundsOf(world, customer).flatMap(({ charge, status }) => (status === 'failed' ? [charge] : [])),
  );
  const ended = subscriptions.filter(endedByUs);
  const surplus = new Set(ended.flatMap((one) => chargesFor(world, one).map(({ id }) => id)));
  for (const { charge, cents } of extra)
    if (!charge.disputed && !sentBack.has(charge.id))
      expect(charge.amount_refunded, 'a second pack is given back').toBeGreaterThanOrEqual(cents);
  const owed = new Map(surplusEnds.flatMap((end) => [...mostByCharge(world, end)]));
  for (const charge of paidCharges(world, customer)) {
    const refunds = refundsOf(world, customer).filter((refund) => refund.charge === charge.id);
    const packs = extra.filter((sale) => sale.charge.id === charge.id);
    // A pack's refund that a dead process did not write down counts for the subscription; then the pack's comes again.
    const most = [0, 1, 3][packs.length + (surplus.has(charge.id) ? 1 : 0)] ?? 0;
    expect(refunds.filter(isOurs).length, 'only surplus is given back, and each once').toBeLessThanOrEqual(
      most,
    );
    if (!raced && !charge.disputed && !sentBack.has(charge.id))
      countsWhatWasGivenBack(refunds, sumOf(packs) + (owed.get(charge.id) ?? 0));
  }
  partsAreTold(world, customer, log);
  for (const { id, charge } of packsPaid(world, customer))
    if (!sentBack.has(charge.id))
      expect(toldOf(log, id), 'no more is told of one charge than was given back').toBeLessThanOrEqual(
        charge.amount_refunded,
      );
  const entries = (action: string) => log.filter((entry) => entry.action === action).length;
  expect(entries('subscription.duplicate_canceled')).toBe(ended.length);
  expect(entries('trial_pack.duplicate_refunded')).toBe(extra.length);
}

/** None of our refunds goes beyond what is owed of its charge, with all that had been given back of it before. */
function countsWhatWasGivenBack(newestFirst: readonly Stripe.Refund[], owedCents: number): void {
  let cents = 0;
  for (const refund of newestFirst.toReversed()) {
    cents += refund.amount;
    if (isOurs(refund)) expect(cents, 'what was given back before counts').toBeLessThanOrEqual(owedCents);
  }
}

/** What the log says was given back of what was sold in one session or on one invoice. */
function toldOf(log: readonly AuditEntry[], sale: string): number {
  return log.reduce((sum, { action, targetResourceId, payload }) => {
    const isPacks = action === 'trial_pack.duplicate_refunded' && targetResourceId === sale;
    const isLate = action === 'subscription.duplicate_refunded' && payload['invoice'] === sale;
    const byInvoice = member(payload['refunded_by_invoice'], sale);
    return sum + Number(isPacks || isLate ? payload['refunded_cents'] : (byInvoice ?? 0));
  }, 0);
}

/** Of a charge for a subscription and a pack a person is told what staff gave back in part; never what we did. */
function partsAreTold(world: World, customer: string, log: readonly AuditEntry[]): void {
  const shared = packsPaid(world, customer).filter(({ charge, cents }) => charge.amount > cents);
  for (const { targetResourceId: target, payload } of log) {
    if (payload['reason'] !== 'refunded_in_part') continue;
    const sale = shared.find(({ id }) => id === target);
    const byHand = refundsOf(world, customer).filter(
      (refund) => refund.charge === sale?.charge.id && !isOurs(refund),
    );
    expect(
      byHand.reduce((sum, { amount }) => sum + amount, 0),
      'a person is told of what staff gave back',
    ).toBeGreaterThanOrEqual(Number(payload['amount_cents']));
  }
}

const isOurs = ({ reason }: Stripe.Refund): boolean => reason === 'duplicate';

const sumOf = (sales: readonly PackSale[]): number => sales.reduce((sum, { cents }) => sum + cents, 0);

/** The pairs of which a person was told that both live on. */
const told = (log: readonly AuditEntry[]): unknown[] =>
  log
    .filter(({ action }) => action === 'subscription.duplicate_left')
    .map(({ targetResourceId, payload }) => [targetResourceId, payload['beside']].sort().join(' '));

/** The best of them with each of the others; the local Stripe lists by age. */
function pairsOf(living: readonly Stripe.Subscription[]): string[] {
  const [first, ...others] = living.map(({ id }) => id);
  return others.length === 1 && first !== undefined ? [[first, ...others].sort().join(' ')] : [];
}

function sessionsAreExclusive(
  { lane, oldPages }: Ending,
  customer: string,
  attempts: readonly CheckoutAttempt[],
): void {
  const { world } = lane.localStripe;
  const sessions = world.ofCustomer('checkout.session', customer).filter(({ id }) => !oldPages.has(id));
  for (const kind of ['subscription', 'trial_pack']) {
    const open = sessions.filter(
      ({ status, metadata }) => status === 'open' && metadata?.['driftstack_kind'] === kind,
    );
    expect(open.length, `at most one payable session for a ${kind}`).toBeLessThanOrEqual(1);
  }
  for (const { stripeSessionId, state } of attempts) {
    if (!stripeSessionId) continue;
    const { status } = world.get('checkout.session', stripeSessionId);
    expect(STATES[status ?? ''], `the attempt of a session that is ${status}`).toContain(state);
  }
}

/** What an attempt may say of a session, by the session's own status. */
const STATES: Readonly<Record<string, readonly string[]>> = {
  open: ['open', 'closing'],
  complete: ['completed'],
  expired: ['expired'],
};

function packIsProjection({ lane }: Ending, customer: string, pack: TrialPack | null): void {
  const { world } = lane.localStripe;
  const paid = packsPaid(world, customer);
  const sale = paid.find(({ id }) => id === pack?.stripeSessionId);
  expect(pack !== null, 'a pack is granted if and only if one was paid').toBe(paid.length > 0);
  if (!pack) return;
  expect(sale, 'the pack was paid').toBeDefined();
  if (!sale) return;
  const { state, remainingSeconds } = pack;
  expect({ state, remainingSeconds }).toEqual(expectedPack(world, sale, lane.time.ms));
}
