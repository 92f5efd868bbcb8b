import type Stripe from 'stripe';
import type { World } from '../../server/local-stripe/world.ts';
import type { State } from '../support/states.ts';
import { disputesOf, refundsOf } from './customer.ts';
import {
  barePayments,
  type Expected,
  endedByUs,
  isLive,
  type PackSale,
  packsPaid,
  rankOf,
} from './oracle.ts';
import type { Ending } from './story.ts';
import { chargesFor } from './surplus.ts';
import type { Heard } from './witness.ts';

type Entry = { action: string; payload: Record<string, unknown>; position: number };
type Pack = { stripeSessionId: string; state: string } | null;
type Look = (state: State, isSo: boolean) => void;

const FORTNIGHT_S = 14 * 86_400;

/** The states that a story went through, as far as they show at its end; then counts all that were seen. */
export function countEnding(
  { lane, customer, history, lost, recovery, witness, oldPages }: Ending,
  { log, mails, pack }: { log: readonly Entry[]; mails: readonly { template: string }[]; pack: Pack },
): void {
  const { see, told, arrived, returns } = witness.seen;
  if (customer !== null) {
    const { world } = lane.localStripe;
    ofTheRow(see, history, log);
    ofSurplus(see, world, customer, log);
    const scene = { world, customer, told, arrived, log, nowMs: lane.time.ms };
    ofPacks(see, scene, pack, { oldPages, returns, hasRow: history.length > 0 });
    ofInvoices(see, scene, mails);
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

type Scene = {
  world: World;
  customer: string;
  told: readonly Heard[];
  arrived: readonly Heard[];
  log: readonly Entry[];
  nowMs: number;
};

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

function ofSurplus(see: Look, world: World, customer: string, log: readonly Entry[]): void {
  const has = (action: string) => log.some((entry) => entry.action === action);
  see(
    'a second subscription is ended, and a person is to give back',
    has('subscription.duplicate_unrefunded'),
  );
  see('two live side by side, and a person is told', has('subscription.duplicate_left'));
  const ended = world.ofCustomer('subscription', customer).filter(endedByUs);
  see('two second subscriptions are ended in one story', ended.length > 1);
  const refunds = refundsOf(world, customer);
  for (const one of ended) {
    const charges = chargesFor(world, one);
    see('a second subscription is ended that nothing was paid for', charges.length === 0);
    see(
      'a second subscription is ended whose payment is disputed',
      charges.some(({ disputed }) => disputed),
    );
    for (const { id, amount } of charges) {
      const back = refunds.filter(({ charge, status }) => charge === id && status === 'succeeded');
      const ours = back.filter(({ reason }) => reason === 'duplicate');
      see('a second subscription is ended and given back', ours.length > 0);
      see(
        'a second subscription is given back in part',
        ours.some((refund) => refund.amount < amount),
      );
      see('a second subscription is ended after staff gave back a part', back.length > ours.length);
    }
  }
}

function ofPacks(
  see: Look,
  scene: Scene,
  pack: Pack,
  {
    oldPages,
    returns,
    hasRow,
  }: { oldPages: ReadonlySet<string>; returns: readonly number[]; hasRow: boolean },
): void {
  const { world, customer, told, arrived, log } = scene;
  const sales = packsPaid(world, customer);
  const isOfStaff = ({ id }: PackSale) => id.startsWith('in_') || isLink(world, id);
  const own = sales.filter((one) => !isOfStaff(one));
  see('a pack is paid for twice on our own pages', own.length > 1);
  see(
    'a pack is paid for on a page that we know nothing of',
    own.some(({ id }) => oldPages.has(id)),
  );
  see('a pack is sold by a link and by us', own.length > 0 && sales.some(({ id }) => isLink(world, id)));
  see(
    "a pack is sold by staff's invoice",
    sales.some(({ id }) => id.startsWith('in_')),
  );
  see('three packs are paid for', sales.length > 2);
  see('a first payment of a pack is declined', hasDeclinedPack(world, customer));
  const bare = barePayments(world, customer);
  see('a payment is for nothing that we know', bare.length > 0);
  see(
    'a payment for nothing is given back before the night',
    bare.some((one) => one.refunded),
  );
  see(
    'a night tells of a payment for nothing',
    log.some(({ action }) => action === 'payment.unrecognised'),
  );
  const sale = sales.find(({ id }) => id === pack?.stripeSessionId);
  if (!pack || !sale) return;
  see('a trial pack is granted', true);
  see('a pack and a subscription belong to one account', hasRow);
  see('a pack runs out of time', pack.state === 'expired');
  const { charge } = sale;
  const overS = charge.created + FORTNIGHT_S;
  see(
    'a pack is granted whose payment came second',
    sales.some((one) => one.charge.created < charge.created),
  );
  const heardMs = [...arrived.map(({ atMs }) => atMs), ...returns].filter(
    (ms) => ms >= charge.created * 1_000,
  );
  see('a pack is heard of when its time is over', Math.min(...heardMs) >= overS * 1_000);
  const first = (type: RegExp, isSo: (about: Heard['about']) => boolean) =>
    arrived.findIndex((one) => type.test(one.type) && isSo(one.about));
  const granted = first(/completed$|^invoice\.paid$/, ({ id }) => id === sale.id);
  const isEarly = (at: number) => at >= 0 && (granted < 0 || at < granted);
  see(
    'a refund is heard of before the sale',
    isEarly(first(/^charge\.refunded$/, ({ id }) => id === charge.id)),
  );
  const opened = first(/^charge\.dispute\.created$/, (about) => about['charge'] === charge.id);
  const closed = first(/^charge\.dispute\.closed$/, (about) => about['charge'] === charge.id);
  see('a dispute is heard of before the sale', isEarly(opened) || isEarly(closed));
  see('a dispute is over before we hear of it', closed >= 0 && (opened < 0 || closed < opened));
  const refunds = refundsOf(world, customer).filter((one) => one.charge === charge.id);
  const back = refunds.filter(({ status }) => status === 'succeeded');
  see('a pack is given back in part', charge.amount_refunded > 0 && !charge.refunded);
  see('a pack is given back in full', charge.refunded);
  see('a pack is given back twice in part', back.length > 1);
  see(
    'a refund of a pack fails',
    refunds.some(({ status }) => status === 'failed'),
  );
  see(
    'a pack is given back when its time is over',
    back.some(({ created }) => created >= overS),
  );
  const disputes = disputesOf(world, customer).filter((one) => one.charge === charge.id);
  see('a pack is disputed', disputes.length > 0);
  see(
    'a dispute is lost',
    disputes.some(({ status }) => status === 'lost'),
  );
  see(
    'a dispute is won',
    disputes.some(({ status }) => status === 'won'),
  );
  see('a pack is given back in part and disputed', disputes.length > 0 && charge.amount_refunded > 0);
  const late = told.some(
    ({ type, about, atMs }) =>
      type === 'charge.dispute.closed' && about['charge'] === charge.id && atMs >= overS * 1_000,
  );
  see('a dispute is closed when the time of its pack is over', late);
  const isOurs = (one: Stripe.Refund) => one.reason === 'duplicate';
  for (const { id, charge: other } of sales) {
    if (id === sale.id) continue;
    see('a second pack is sold when the first has run out', other.created >= overS);
    see('a second pack is disputed', other.disputed);
    const given = refundsOf(world, customer).filter((one) => one.charge === other.id);
    see(
      'a second pack was given back by staff',
      given.some((one) => !isOurs(one)),
    );
  }
}

const isLink = (world: World, id: string): boolean =>
  id.startsWith('cs_') && world.get('checkout.session', id).metadata?.['driftstack_kind'] === undefined;

function hasDeclinedPack(world: World, customer: string): boolean {
  const intents = new Set<unknown>(
    world.ofCustomer('checkout.session', customer).map(({ payment_intent: intent }) => intent),
  );
  return world
    .ofCustomer('charge', customer)
    .some(({ status, payment_intent: intent }) => status === 'failed' && intents.has(intent));
}

function ofInvoices(see: Look, scene: Scene, mails: readonly { template: string }[]): void {
  const { world, customer, told, arrived } = scene;
  const indexIn = (list: readonly Heard[], type: string, id: string | undefined) =>
    list.findIndex((one) => one.type === type && one.about.id === id);
  for (const invoice of world.ofCustomer('invoice', customer)) {
    const { id, status, amount_paid: paid, billing_reason: reason, attempt_count: tries } = invoice;
    const isPaid = status === 'paid';
    const hasFailed = indexIn(told, 'invoice.payment_failed', id) >= 0;
    see('an invoice is paid', isPaid && paid > 0);
    see('an invoice comes to nothing', isPaid && paid === 0);
    see('a renewal is paid', isPaid && reason === 'subscription_cycle');
    see('an attempt to collect fails', hasFailed);
    see('an invoice is tried a third time', tries > 2);
    see('an invoice is paid after it failed', isPaid && hasFailed);
    see('a payment waits for the customer', indexIn(told, 'invoice.payment_action_required', id) >= 0);
    const failed = indexIn(arrived, 'invoice.payment_failed', id);
    const settled = indexIn(arrived, 'invoice.paid', id);
    see('a failed attempt is heard of after the payment', failed > settled && settled >= 0);
    const of = invoice.parent?.subscription_details?.subscription;
    const ended = typeof of === 'string' && world.get('subscription', of).ended_at !== null;
    see('an invoice is left unpaid by a subscription that ended', ended && status !== 'paid' && tries > 0);
  }
  see(
    'a renewal is announced',
    mails.some(({ template }) => template === 'renewal_upcoming'),
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
