import type { World } from '../../server/local-stripe/world.ts';
import { ofAddresses } from './addresses.ts';
import {
  type Entry,
  type Look,
  ofInvoices,
  ofPacks,
  ofSurplus,
  type Pack,
  type Scene,
} from './money-endings.ts';
import { type Expected, isLive, rankOf } from './oracle.ts';
import type { Ending } from './story.ts';

/** The states that a story went through, as far as they show at its end; then counts all that were seen. */
export function countEnding(
  ending: Ending,
  {
    log,
    mails,
    pack,
  }: { log: readonly Entry[]; mails: readonly { template: string; toAddress: string }[]; pack: Pack },
): void {
  const { lane, customer, history, lost, recovery, witness, oldPages } = ending;
  const { see, told, arrived, returns } = witness.seen;
  if (customer !== null) {
    const { world } = lane.localStripe;
    ofTheRow(see, history, log);
    ofSurplus(see, world, customer, log);
    const scene = { world, customer, told, arrived, log, nowMs: lane.time.ms };
    ofPacks(see, scene, pack, { oldPages, returns, hasRow: history.length > 0 });
    ofInvoices(see, scene, mails);
    ofAddresses(see, ending, log, mails);
    ofTheDeleted(see, scene);
    ofTheMissed(see, scene, lost, recovery);
    see('a schedule ends a subscription', hasEndedBySchedule(world));
    see(
      'a subscription is paused',
      told.some(({ about }) => about['pause_collection'] instanceof Object),
    );
  }
  witness.count();
}

/** How one state of the row that Stripe's objects ask for followed on the other. */
function ofTheRow(see: Look, history: readonly Expected[], log: readonly Entry[]): void {
  const statuses = new Set(history.map(({ status }) => status));
  see('a subscription is active', statuses.has('active'));
  see('a subscription is past due', statuses.has('past_due'));
  see('a subscription is incomplete', statuses.has('incomplete'));
  see('a subscription was never paid for', statuses.has('incomplete_expired'));
  see('a subscription has ended', statuses.has('canceled'));
  const known = log.filter(({ action }) => action === 'subscription.status_changed');
  const passed = history.filter(({ status }, at) => status !== history[at - 1]?.status);
  see('the log never saw a status that Stripe went through', known.length < passed.length);
  see('a subscription had ended before we heard of it', known[0]?.payload['to'] === 'canceled');
  const has = (action: string) => log.some((entry) => entry.action === action);
  const former = new Set<string>();
  for (const [at, now] of history.entries()) {
    see('an end is planned beside a booked change', now.pending !== null && now.endsAt !== null);
    see('an end is planned beyond the period', now.endsAt !== null && now.endsAt > now.currentPeriodEnd);
    const before = history[at - 1];
    if (before === undefined) continue;
    if (before.stripeSubscriptionId !== now.stripeSubscriptionId) {
      see('the row passes on to another subscription', true);
      see('the row comes back to an earlier subscription', former.has(now.stripeSubscriptionId));
      former.add(before.stripeSubscriptionId);
      continue;
    }
    fromStatus(see, before, now);
    fromPlan(see, before, now, has);
    if (before.endsAt !== null && isLive(now.status) && before.endsAt !== now.endsAt) {
      see(now.endsAt === null ? 'a planned end is taken back' : 'a planned end is moved', true);
      see(
        'an end is planned and taken back before we hear of it',
        now.endsAt === null && !has('subscription.cancel_scheduled'),
      );
    }
    see('an end is planned', before.endsAt === null && now.endsAt !== null);
    see('a planned end comes', before.endsAt !== null && before.endsAt === now.endedAt);
  }
  const tiers = new Set(log.map(({ payload }) => payload['to']));
  for (const [at, { tier, stripeSubscriptionId: id }] of history.entries()) {
    const [before, after] = [history[at - 1], history.slice(at + 1).find((one) => one.tier !== tier)];
    const isBack = before?.tier === after?.tier && before?.stripeSubscriptionId === id;
    see(
      'the plan changes and changes back before we hear of it',
      before !== undefined && before.tier !== tier && isBack && !tiers.has(tier),
    );
  }
}

function fromStatus(see: Look, before: Expected, now: Expected): void {
  const step = `${before.status} ${now.status}`;
  see('a subscription is past due and then paid for', step === 'past_due active');
  see('a subscription ends for want of payment', step === 'past_due canceled');
  see('a first payment waits, and is made', step === 'incomplete active');
}

function fromPlan(see: Look, before: Expected, now: Expected, has: (action: string) => boolean): void {
  see('the tier goes up', rankOf(now.tier) > rankOf(before.tier));
  see('the tier goes down', rankOf(now.tier) < rankOf(before.tier));
  const isOther = before.billingPeriod !== now.billingPeriod;
  see('a month becomes a year', isOther && now.billingPeriod === 'annual');
  see('a year becomes a month', isOther && now.billingPeriod === 'monthly');
  const { pending: was } = before;
  const { pending: is } = now;
  see('a change is booked', was === null && is !== null);
  see('a change of the period is booked', is !== null && is.period !== now.billingPeriod);
  if (was === null) return;
  const isTrue = now.tier === was.tier && now.billingPeriod === was.period;
  const isOff = is === null && isLive(now.status) && !isTrue;
  see(
    'a booked change is replaced by another',
    is !== null && (is.tier !== was.tier || is.period !== was.period),
  );
  see('a subscription ends before its booked change', is === null && !isLive(now.status));
  see('a booked change comes true', is === null && isLive(now.status) && isTrue);
  see('a booked change is called off', isOff);
  const wasHeard = ['tier', 'billing_period'].some((what) => has(`subscription.${what}_change_scheduled`));
  see('a booked change is called off before we hear of it', isOff && !wasHeard);
}

function hasEndedBySchedule(world: World): boolean {
  return [...world.newestFirst('subscription_schedule')].some(
    ({ end_behavior, phases, subscription, ...rest }) => {
      const id = subscription ?? rest.released_subscription;
      if (end_behavior !== 'cancel' || id === null) return false;
      return (
        world.get('subscription', String(id)).ended_at === Math.max(...phases.map((one) => one.end_date))
      );
    },
  );
}

function ofTheDeleted(see: Look, { told, arrived, log }: Scene): void {
  const deletion = told.findIndex(({ type }) => type === 'customer.deleted');
  if (deletion < 0) return;
  const later = new Set(told.slice(deletion).map(({ type }) => type));
  see('a former customer is given back', later.has('charge.refunded'));
  see('a former customer disputes', later.has('charge.dispute.created'));
  see('a dispute of a former customer is closed', later.has('charge.dispute.closed'));
  const heard = arrived.findIndex(({ type }) => type === 'customer.deleted');
  const sale = arrived.findIndex(({ type }) => /completed$|^invoice\.paid$/.test(type));
  see('a deletion is heard of before the purchase', heard >= 0 && sale > heard);
  const place = (action: string) => log.findIndex((entry) => entry.action === action);
  const gone = place('stripe_customer.deleted');
  see('a pack is granted to a former customer', gone >= 0 && place('trial_pack.redeemed') > gone);
  const second = place('trial_pack.duplicate_refunded');
  see('a second pack of a former customer is given back', gone >= 0 && second > gone);
}

function ofTheMissed(
  see: Look,
  { told, arrived, log }: Scene,
  lost: Ending['lost'],
  recovery: Ending['recovery'],
): void {
  if (lost.length === 0) return;
  const isCompared = recovery === 'reconcile';
  see('an event that never came is made good by a comparison', isCompared);
  see("an event that never came is found in Stripe's list", !isCompared);
  const mended = log.some(({ action }) => action === 'operator.reconciled');
  see('a comparison finds nothing to mend', isCompared && !mended);
  const never = new Set(lost.map(({ id }) => id));
  const types = new Set(told.filter(({ id }) => never.has(id)).map(({ type }) => type));
  see('the end of a subscription is never told', types.has('customer.subscription.deleted'));
  see('a refund is never told', types.has('charge.refunded'));
  const deliveries = new Set(arrived.map(({ about }) => about.id));
  for (const { type, about } of told.filter(({ id }) => never.has(id))) {
    if (type !== 'checkout.session.completed') continue;
    const related = [about.id, about['subscription'], about['invoice']];
    see('no event of a purchase ever comes', !related.some((id) => deliveries.has(String(id))));
  }
}
