import type Stripe from 'stripe';
import type { World } from '../world.ts';
import { endSubscription } from './cancel.ts';
import { idOf } from './customers.ts';
import { subscriptionOf } from './invoice-object.ts';
import { paymentIntentOf } from './invoice-payments.ts';
import { billingSettings } from './settings.ts';
import { isOver } from './subscription-object.ts';
import { arm } from './timers.ts';

/** Lets subscriptions follow their invoices: paid, failed, given up. */
export function registerDunning(world: World): void {
  world.react('invoice.paid', (_, { id }) => withSubscription(world, id, followPaid));
  world.react('invoice.payment_failed', (_, { id }) => withSubscription(world, id, followFailed));
  world.react('invoice.payment_action_required', (_, { id }) => withSubscription(world, id, fallBehind));
  world.react('invoice.voided', (_, { id }) => withSubscription(world, id, followGivenUp));
  world.react('invoice.marked_uncollectible', (_, { id }) => withSubscription(world, id, followGivenUp));
}

type Follow = (world: World, subscription: Stripe.Subscription, invoice: Stripe.Invoice) => void;

function withSubscription(world: World, invoiceId: string | undefined, follow: Follow): void {
  const invoice = invoiceId === undefined ? undefined : world.find('invoice', invoiceId);
  const id = invoice ? subscriptionOf(invoice) : null;
  const subscription = id === null ? undefined : world.find('subscription', id);
  if (invoice && subscription && !isOver(subscription)) follow(world, subscription, invoice);
}

function followPaid(world: World, subscription: Stripe.Subscription, invoice: Stripe.Invoice): void {
  const { id, status } = subscription;
  if (idOf(subscription.latest_invoice) !== invoice.id) return;
  if (status !== 'incomplete' && status !== 'past_due' && status !== 'unpaid' && status !== 'paused') return;
  const saves = subscription.payment_settings?.save_default_payment_method === 'on_subscription';
  const paidBy = saves ? idOf(paymentIntentOf(world, invoice.id)?.payment_method) : null;
  const active = world.change(
    'subscription',
    id,
    { status: 'active', ...(paidBy === null ? {} : { default_payment_method: paidBy }) },
    'customer.subscription.updated',
  );
  if (status === 'paused') world.emit('customer.subscription.resumed', active);
  arm(world, active);
}

function followFailed(world: World, subscription: Stripe.Subscription, invoice: Stripe.Invoice): void {
  const behind = fallBehind(world, subscription);
  const { retryDays, afterRetries } = billingSettings(world);
  if (behind.status !== 'past_due' || invoice.attempt_count <= retryDays.length) return;
  switch (afterRetries) {
    case 'cancel':
      endSubscription(world, behind.id, { reason: 'payment_failed' });
      return;
    case 'unpaid':
      arm(
        world,
        world.change('subscription', behind.id, { status: 'unpaid' }, 'customer.subscription.updated'),
      );
      return;
    case 'past_due':
      return;
  }
}

function fallBehind(world: World, subscription: Stripe.Subscription): Stripe.Subscription {
  if (subscription.status !== 'active' && subscription.status !== 'trialing') return subscription;
  const behind = world.change(
    'subscription',
    subscription.id,
    { status: 'past_due' },
    'customer.subscription.updated',
  );
  arm(world, behind);
  return behind;
}

function followGivenUp(world: World, subscription: Stripe.Subscription, invoice: Stripe.Invoice): void {
  if (subscription.status !== 'past_due' || idOf(subscription.latest_invoice) !== invoice.id) return;
  const active = world.change(
    'subscription',
    subscription.id,
    { status: 'active' },
    'customer.subscription.updated',
  );
  arm(world, active);
}
