import Stripe from 'stripe';
import { localStripeWithClient, type Received, receiver } from './api.ts';

/** A local Stripe, the real client, and everything the local Stripe answered it with 200 and sent to its one webhook endpoint. */
export async function recordedLocalStripe(clock: { ms: number }) {
  const { localStripe, hook } = await localStripeWithClient({ clock: () => clock.ms });
  const answers: object[] = [];
  const recorder: typeof fetch = async (input, init) => {
    const answer = await fetch(input, init);
    const body: unknown = await answer.clone().json();
    if (answer.ok && typeof body === 'object' && body !== null) answers.push(body);
    return answer;
  };
  const stripe = new Stripe('sk_test_123', {
    host: '127.0.0.1',
    port: localStripe.port,
    protocol: 'http',
    maxNetworkRetries: 0,
    telemetry: false,
    httpClient: Stripe.createFetchHttpClient(recorder),
  });
  const { url, received } = await receiver();
  const { secret } = await stripe.webhookEndpoints.create({ url, enabled_events: ['*'] });
  return {
    localStripe,
    stripe,
    hook,
    answers,
    /** Every event sent so far, its signature verified. */
    events: () => received.map((one) => verified(stripe, one, String(secret))),
  };
}

function verified(stripe: Stripe, { body, headers }: Received, secret: string): Stripe.Event {
  stripe.webhooks.constructEvent(body, String(headers['stripe-signature']), secret);
  // As it was on the wire: constructEvent makes objects of decimals.
  return JSON.parse(body);
}
