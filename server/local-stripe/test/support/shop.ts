import Stripe from 'stripe';
import { type LocalStripe, type LocalStripeOptions, startLocalStripe } from '../../local-stripe.ts';

export interface Shop {
  readonly localStripe: LocalStripe;
  readonly stripe: Stripe;
  /** Price ids by plan: starter 2900, builder 9900, scale 39900 cents a month, builderYearly 99000 a year. */
  readonly prices: Readonly<Record<PlanName, string>>;
  /** Seconds of the local Stripe's clock are real ones plus what tests skip. */
  close(): Promise<void>;
}

type PlanName = 'starter' | 'builder' | 'scale' | 'builderYearly' | 'pack';

/** Starts a local Stripe in memory with a few plans, spoken to by the real stripe package. */
export async function openShop(product: LocalStripeOptions['product'] = null): Promise<Shop> {
  const localStripe = await startLocalStripe({ port: 0, dataPath: ':memory:', product });
  const stripe = new Stripe('sk_test_local_stripe', {
    host: '127.0.0.1',
    port: localStripe.port,
    protocol: 'http',
    telemetry: false,
  });
  const plan = async (
    name: string,
    cents: number,
    key: string,
    interval: 'month' | 'year' | null,
  ): Promise<string> => {
    const product = await stripe.products.create({ name });
    const price = await stripe.prices.create({
      product: product.id,
      currency: 'usd',
      unit_amount: cents,
      lookup_key: key,
      ...(interval === null ? {} : { recurring: { interval } }),
    });
    return price.id;
  };
  const prices = {
    starter: await plan('API Starter', 2900, 'driftstack_api_starter_monthly', 'month'),
    builder: await plan('API Builder', 9900, 'driftstack_api_builder_monthly', 'month'),
    scale: await plan('API Scale', 39_900, 'driftstack_api_scale_monthly', 'month'),
    builderYearly: await plan('API Builder', 99_000, 'driftstack_api_builder_annual', 'year'),
    pack: await plan('Trial pack', 299, 'driftstack_trial_pack', null),
  };
  return { localStripe, stripe, prices, close: () => localStripe.close() };
}

/** A Checkout session for a new customer, with the local Stripe's own landing pages as the application. */
export async function newCheckout(
  { stripe, prices, localStripe }: Shop,
  plan: PlanName = 'builder',
): Promise<Stripe.Checkout.Session & { url: string }> {
  const customer = await stripe.customers.create({ email: 'ada@example.test' });
  const session = await stripe.checkout.sessions.create({
    mode: plan === 'pack' ? 'payment' : 'subscription',
    customer: customer.id,
    client_reference_id: 'acc_0190a1b2',
    line_items: [{ price: prices[plan], quantity: 1 }],
    success_url: `${localStripe.url}/app/success?session_id={CHECKOUT_SESSION_ID}`,
    cancel_url: `${localStripe.url}/app/cancel`,
  });
  if (session.url === null) throw new Error('an open session has an address');
  return { ...session, url: session.url };
}

/** A customer who subscribed with a card that works, and a fresh portal link. */
export async function newPortal(
  local: Shop,
  plan: PlanName = 'builder',
): Promise<{ customer: string; subscription: string; url: string }> {
  const { stripe, prices, localStripe } = local;
  const customer = await stripe.customers.create({
    email: 'ada@example.test',
    payment_method: 'pm_card_visa',
    invoice_settings: { default_payment_method: 'pm_card_visa' },
  });
  const subscription = await stripe.subscriptions.create({
    customer: customer.id,
    items: [{ price: prices[plan] }],
  });
  const portal = await stripe.billingPortal.sessions.create({
    customer: customer.id,
    return_url: `${localStripe.url}/app/account`,
  });
  return { customer: customer.id, subscription: subscription.id, url: portal.url };
}
