import { describe, expect, it } from 'vitest';
import { KINDS } from '../kinds.ts';
import { eventually } from './support/api.ts';
import { recordedLocalStripe } from './support/recording.ts';
import { oneOfEachShape, typeErrors } from './support/stripe-types.ts';
import { wholeRun } from './support/whole-run.ts';

describe('the SDK’s own types as schema', () => {
  it('fit every answer and every event of a whole run', { timeout: 180_000 }, async () => {
    const clock = { ms: Date.parse('2027-06-15T12:00:00Z') };
    const recorded = await recordedLocalStripe(clock);
    await wholeRun(recorded, clock);
    const told = recorded.localStripe.world.store.count('event');
    await eventually('all events delivered', () => recorded.events().length === told);
    const events = recorded.events();
    expect(new Set(events.map(({ type }) => type))).toEqual(new Set(EVENT_TYPES));
    const seen = oneOfEachShape([...recorded.answers, ...events]);
    const kinds = new Set(seen.map((value) => Reflect.get(value, 'object')));
    expect(KINDS.filter((kind) => !kinds.has(kind))).toEqual([]);
    expect(await typeErrors(seen)).toEqual([]);
  });

  it('find a missing, an excess, a wrong and an unheard-of value', { timeout: 60_000 }, async () => {
    const { stripe, answers } = await recordedLocalStripe({ ms: Date.parse('2027-06-15T12:00:00Z') });
    await stripe.products.create({ name: 'Builder' });
    await stripe.paymentIntents.create({ amount: 100, currency: 'usd' });
    const events = await stripe.events.list({ type: 'payment_intent.created' });
    const [, product, intent] = answers;
    const { description: _, ...incomplete } = Object(product);
    const found = await typeErrors([
      incomplete,
      { ...product, colour: 'red' },
      { ...product, created: '2027' },
      { ...intent, status: 'paid' },
      { ...Object(events.data[0]), data: { object: { ...intent, capture_method: undefined } } },
      { ...Object(events.data[0]), type: 'payment_intent.made' },
    ]);
    expect(found.map((error) => /TS\d+/.exec(error)?.[0])).toEqual([
      'TS2741', // description is missing
      'TS2353', // colour is not known
      'TS2322', // created is text
      'TS2322', // paid is no status
      'TS2741', // within an event, capture_method is missing
      'TS2322', // there is no such event
    ]);
  });
});

/** Every event the local Stripe tells. */
const EVENT_TYPES: readonly string[] = [
  'billing_portal.configuration.created',
  'billing_portal.configuration.updated',
  'billing_portal.session.created',
  'charge.dispute.closed',
  'charge.dispute.created',
  'charge.dispute.funds_reinstated',
  'charge.dispute.funds_withdrawn',
  'charge.dispute.updated',
  'charge.failed',
  'charge.pending',
  'charge.refunded',
  'charge.succeeded',
  'charge.updated',
  'checkout.session.async_payment_failed',
  'checkout.session.async_payment_succeeded',
  'checkout.session.completed',
  'checkout.session.expired',
  'customer.created',
  'customer.deleted',
  'customer.subscription.created',
  'customer.subscription.deleted',
  'customer.subscription.paused',
  'customer.subscription.resumed',
  'customer.subscription.trial_will_end',
  'customer.subscription.updated',
  'customer.updated',
  'invoice.created',
  'invoice.deleted',
  'invoice.finalized',
  'invoice.marked_uncollectible',
  'invoice.paid',
  'invoice.payment_action_required',
  'invoice.payment_failed',
  'invoice.payment_succeeded',
  'invoice.sent',
  'invoice.upcoming',
  'invoice.updated',
  'invoice.voided',
  'invoice_payment.paid',
  'invoiceitem.created',
  'invoiceitem.deleted',
  'payment_intent.canceled',
  'payment_intent.created',
  'payment_intent.payment_failed',
  'payment_intent.processing',
  'payment_intent.requires_action',
  'payment_intent.succeeded',
  'payment_method.attached',
  'payment_method.detached',
  'payment_method.updated',
  'price.created',
  'price.updated',
  'product.created',
  'product.deleted',
  'product.updated',
  'refund.created',
  'refund.failed',
  'refund.updated',
  'setup_intent.canceled',
  'setup_intent.created',
  'setup_intent.requires_action',
  'setup_intent.setup_failed',
  'setup_intent.succeeded',
  'subscription_schedule.canceled',
  'subscription_schedule.completed',
  'subscription_schedule.created',
  'subscription_schedule.released',
  'subscription_schedule.updated',
  'test_helpers.test_clock.advancing',
  'test_helpers.test_clock.created',
  'test_helpers.test_clock.deleted',
  'test_helpers.test_clock.ready',
];
