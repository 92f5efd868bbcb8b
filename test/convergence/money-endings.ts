import type Stripe from 'stripe';
import type { World } from '../../server/local-stripe/world.ts';
import type { State } from '../support/states.ts';
import { disputesOf, refundsOf } from './customer.ts';
import { barePayments, endedByUs, type PackSale, packsPaid } from './oracle.ts';
import { chargesFor } from './surplus.ts';
import type { Heard } from './witness.ts';

export type Entry = { action: string; actorType: string; payload: Record<string, unknown>; position: number };
export type Pack = { stripeSessionId: string; state: string } | null;
export type Look = (state: State, isSo: boolean) => void;

/** What there is to see once a story has come to rest. */
export type Scene = {
  world: World;
  customer: string;
  told: readonly Heard[];
  arrived: readonly Heard[];
  log: readonly Entry[];
  nowMs: number;
};

const FORTNIGHT_S = 14 * 86_400;

/** What became of subscriptions that were one too many. */
export function ofSurplus(see: Look, world: World, customer: string, log: readonly Entry[]): void {
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

/** What was sold as the trial pack or paid for nothing, and what became of that money. */
export function ofPacks(
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
  ofShared(see, scene, pack);
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
    sales.some(({ id, charge, cents }) => id.startsWith('in_') && charge.amount === cents),
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

/** What was sold on one invoice with a subscription, and what became of either. */
function ofShared(see: Look, { world, customer }: Scene, pack: Pack): void {
  const ended = world.ofCustomer('subscription', customer).filter(endedByUs);
  const surplus = new Set(ended.flatMap((one) => chargesFor(world, one).map(({ id }) => id)));
  for (const { id, charge, cents } of packsPaid(world, customer)) {
    if (charge.amount === cents) continue;
    const [isSecond, isSurplus] = [id !== pack?.stripeSessionId, surplus.has(charge.id)];
    const refunds = refundsOf(world, customer).filter((one) => one.charge === charge.id);
    // The newest of them first.
    const first = refunds.at(-1);
    const ours = refunds.filter(({ reason }) => reason === 'duplicate');
    see('a pack is sold beside a subscription on one invoice', true);
    see('a second pack is sold beside a subscription that is kept', isSecond && !isSurplus);
    see('a second subscription is sold beside a pack that is kept', !isSecond && isSurplus);
    see(
      'a second subscription and a second pack of one charge are both given back',
      isSecond && isSurplus && ours.length === 2,
    );
    see(
      'staff gives back of a charge for a subscription and a pack before we do',
      ours.length > 0 && first?.reason !== 'duplicate',
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

/** What was collected, and in which order it was heard of. */
export function ofInvoices(see: Look, scene: Scene, mails: readonly { template: string }[]): void {
  const { world, customer, told, arrived } = scene;
  const indexIn = (list: readonly Heard[], type: string, id: string | undefined) =>
    list.findIndex((one) => one.type === type && one.about.id === id);
  for (const invoice of world.ofCustomer('invoice', customer)) {
    const { id, status, amount_paid: paid, billing_reason: reason, attempt_count: tries } = invoice;
    const isPaid = status === 'paid';
    const hasFailed = indexIn(told, 'invoice.payment_failed', id) >= 0;
    see('an invoice is paid', isPaid && paid > 0);
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
