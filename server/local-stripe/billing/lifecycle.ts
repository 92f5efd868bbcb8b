import { expireCheckoutSession } from '../checkout/complete.ts';
import { registerCheckout } from '../checkout/pay.ts';
import type { World } from '../world.ts';
import { endSubscription, expireIncomplete } from './cancel.ts';
import { registerCollection } from './collect.ts';
import { advanceInvoice, turnCycle } from './cycle.ts';
import { registerDunning } from './dunning.ts';
import { beginPhase } from './schedule-phases.ts';
import { isOver } from './subscription-object.ts';
import { announceUpcoming } from './upcoming.ts';

/** Answers every alarm of billing and lets it follow payments. Call once, before the first request. */
export function registerBilling(world: World): void {
  registerCollection(world);
  registerDunning(world);
  registerCheckout(world);
  world.onWake('subscription.cycle', turnCycle);
  world.onWake('subscription.cancel', (_, id, at) => {
    const subscription = world.get('subscription', id);
    const due = subscription.cancel_at !== null && subscription.cancel_at <= at;
    if (due && !isOver(subscription)) endSubscription(world, id, {});
  });
  world.onWake('subscription.trial_will_end', (_, id) => {
    const subscription = world.get('subscription', id);
    if (subscription.status === 'trialing') world.emit('customer.subscription.trial_will_end', subscription);
  });
  world.onWake('subscription.upcoming', (_, id) => announceUpcoming(world, world.get('subscription', id)));
  world.onWake('subscription.incomplete_expiry', (_, id) => expireIncomplete(world, id));
  world.onWake('subscription.resume_collection', (_, id) => {
    world.change('subscription', id, { pause_collection: null }, 'customer.subscription.updated');
  });
  world.onWake('invoice.finalize', (_, id) => advanceInvoice(world, id));
  world.onWake('schedule.phase', beginPhase);
  world.onWake('checkout.expire', (_, id) => {
    if (world.get('checkout.session', id).status === 'open') expireCheckoutSession(world, id);
  });
  world.react('customer.deleted', (_, { id }) => {
    if (id === undefined) return;
    for (const subscription of world.ofCustomer('subscription', id))
      if (!isOver(subscription))
        endSubscription(world, subscription.id, { reason: 'cancellation_requested' });
  });
}
