import type Stripe from 'stripe';
import { cancelSubscription } from '../../server/local-stripe/billing/cancel.ts';
import { changeSubscription, NO_CHANGE } from '../../server/local-stripe/billing/change.ts';
import { changeSchedule, scheduleFrom } from '../../server/local-stripe/billing/schedules.ts';
import { startSubscription } from '../../server/local-stripe/billing/start.ts';
import { arm } from '../../server/local-stripe/billing/timers.ts';
import { payCheckoutSession } from '../../server/local-stripe/checkout/pay.ts';
import { closeDispute, openDispute } from '../../server/local-stripe/disputes.ts';
import { StripeError } from '../../server/local-stripe/errors.ts';
import { declineNextPayments } from '../../server/local-stripe/ordered-declines.ts';
import { createTestPaymentMethod } from '../../server/local-stripe/payment-methods.ts';
import { completeAuthentication } from '../../server/local-stripe/payments.ts';
import {
  portalCancel,
  portalChangePlan,
  portalKeep,
  portalPayInvoice,
  portalSetDefaultPaymentMethod,
} from '../../server/local-stripe/portal/actions.ts';
import { createPortalSession, redeemPortalLink } from '../../server/local-stripe/portal/sessions.ts';
import { liveSubscription } from '../../server/local-stripe/portal/view.ts';
import { createRefund, failRefund } from '../../server/local-stripe/refunds.ts';
import type { World } from '../../server/local-stripe/world.ts';
import { lookupKey, TRIAL_PACK } from '../../shared/catalog.ts';
import type { Command } from './commands.ts';
import type { Lane } from './lane.ts';
import { isLive } from './oracle.ts';

/** Does at Stripe what a customer, a bank or an operator does there. What Stripe refuses does not happen. */
export function happen(lane: Lane, customer: string, pages: readonly string[], command: Command): void {
  const { world } = lane.localStripe;
  try {
    world.atomically(() => act(lane, world, customer, pages, command));
  } catch (error) {
    if (!(error instanceof StripeError)) throw error;
  }
}

function act(
  { setUp }: Lane,
  world: World,
  customer: string,
  pages: readonly string[],
  command: Command,
): void {
  const priceOf = (plan: { tier: Parameters<typeof lookupKey>[0]; period: 'monthly' | 'annual' }) =>
    setUp.prices.get(lookupKey(plan.tier, plan.period)) ?? '';
  const pack = () => world.get('price', setUp.prices.get(TRIAL_PACK.lookupKey) ?? '');
  const visit = () => {
    const link = { customer, configuration: setUp.portalConfigurationId, returnUrl: null };
    const { url } = createPortalSession(world, { ...link, locale: null, flow: null });
    return redeemPortalLink(world, url.split('/').at(-1) ?? '').visit;
  };
  switch (command.do) {
    case 'pay_page': {
      // From the newest, which is the one the customer has in front of them.
      const page = pick(pages.toReversed(), command.page);
      if (page) payCheckoutSession(world, page, { paymentMethod: `pm_card_${command.card}`, email: null });
      return;
    }
    case 'change_plan':
      portalChangePlan(world, visit(), priceOf(command));
      return;
    case 'cancel':
      portalCancel(world, visit());
      return;
    case 'keep':
      portalKeep(world, visit());
      return;
    case 'give_card':
      portalSetDefaultPaymentMethod(world, visit(), `pm_card_${command.card}`);
      return;
    case 'pay_invoice': {
      const open = world.ofCustomer('invoice', customer).findLast(({ status }) => status === 'open');
      if (open) portalPayInvoice(world, visit(), open.id, `pm_card_${command.card}`);
      return;
    }
    case 'authenticate': {
      const asked = world
        .ofCustomer('payment_intent', customer)
        .filter(({ status }) => status === 'requires_action');
      const intent = pick(asked, command.payment);
      if (intent) completeAuthentication(world, intent.id, command.outcome);
      return;
    }
    case 'decline_next':
      declineNextPayments(world, customer, 'insufficient_funds', command.times);
      return;
    case 'dispute': {
      const charge = pick(paidCharges(world, customer), command.charge);
      if (charge) openDispute(world, charge.id);
      return;
    }
    case 'close_dispute': {
      const open = disputesOf(world, customer).filter(({ status }) => status === 'needs_response');
      const dispute = pick(open, command.dispute);
      if (dispute) closeDispute(world, dispute.id, command.outcome);
      return;
    }
    case 'refund': {
      const charge = pick(paidCharges(world, customer), command.charge);
      if (!charge) return;
      const left = charge.amount - charge.amount_refunded;
      createRefund(world, { charge: charge.id, amount: Math.ceil(left / command.part) });
      return;
    }
    case 'fail_refund': {
      const refund = pick(refundsOf(world, customer), command.refund);
      // What we refund ourselves is to stay refunded: who fails it leaves a person to look after it.
      if (refund && refund.reason !== 'duplicate') failRefund(world, refund.id);
      return;
    }
    case 'end_subscription': {
      const live = liveSubscription(world, customer);
      if (live) cancelSubscription(world, live.id, { prorate: false, invoiceNow: false, details: {} });
      return;
    }
    case 'set_end': {
      const live = liveSubscription(world, customer);
      // Stripe refuses it where a schedule has the say.
      if (!live || live.schedule !== null) return;
      const now = world.now();
      const fields = {
        cancel_at: now + command.hours * 3_600,
        cancel_at_period_end: false,
        canceled_at: now,
      };
      changeSubscription(world, live.id, { ...NO_CHANGE, fields });
      return;
    }
    case 'end_by_schedule': {
      const live = liveSubscription(world, customer);
      if (!live || live.cancel_at !== null || live.status !== 'active') return;
      const { schedule } = live;
      const id = typeof schedule === 'string' ? schedule : scheduleFrom(world, live).id;
      changeSchedule(world, id, { end_behavior: 'cancel' });
      return;
    }
    case 'subscribe_in_dashboard':
    case 'subscribe_with_pack': {
      const card = createTestPaymentMethod(world, { pmAlias: 'pm_card_visa' });
      portalSetDefaultPaymentMethod(world, visit(), card.id);
      startSubscription(world, {
        customer,
        items: [{ price: world.get('price', priceOf(command)), quantity: 1, metadata: {} }],
        once: command.do === 'subscribe_with_pack' ? [{ price: pack(), quantity: 1, metadata: {} }] : [],
        trialEnd: null,
        billingCycleAnchor: null,
        prorate: true,
        paymentBehavior: 'allow_incomplete',
        offSession: true,
        paidBy: null,
        fields: {},
      });
      return;
    }
    case 'set_aside': {
      const living = world.ofCustomer('subscription', customer).filter(({ status }) => isLive(status));
      const one = pick(living, command.which);
      if (one) setAside(world, one, command.how);
      return;
    }
    default:
      throw new Error(`${command.do} does not happen at Stripe`);
  }
}

/** What staff can order for a subscription in the Dashboard. */
function setAside(world: World, one: Stripe.Subscription, how: 'end_later' | 'pause' | 'go_on'): void {
  const members = {
    end_later: { cancel_at: world.now() + 10 * 86_400, canceled_at: world.now() },
    pause: { pause_collection: { behavior: 'void', resumes_at: null } },
    go_on: { cancel_at: null, cancel_at_period_end: false, canceled_at: null, pause_collection: null },
  } satisfies Record<typeof how, Partial<Stripe.Subscription>>;
  arm(world, world.change('subscription', one.id, members[how], 'customer.subscription.updated'));
}

/** One of several, counting round. */
export function pick<T>(several: readonly T[], number: number): T | undefined {
  return several[number % Math.max(1, several.length)];
}

export function paidCharges(world: World, customer: string): readonly Stripe.Charge[] {
  return world.ofCustomer('charge', customer).filter(({ paid }) => paid);
}

export function refundsOf(world: World, customer: string): readonly Stripe.Refund[] {
  const charges = new Set<unknown>(paidCharges(world, customer).map(({ id }) => id));
  return [...world.newestFirst('refund')].filter(({ charge }) => charges.has(charge));
}

export function disputesOf(world: World, customer: string): readonly Stripe.Dispute[] {
  const charges = new Set<unknown>(paidCharges(world, customer).map(({ id }) => id));
  return [...world.newestFirst('dispute')].filter(({ charge }) => charges.has(charge));
}
