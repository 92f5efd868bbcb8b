import Stripe from 'stripe';
import { type Received, receiver, sandboxWithClient } from './api.ts';

/** A sandbox, the real client, and everything the sandbox answered it with 200 and sent to its one webhook endpoint. */
export async function recordedSandbox(clock: { ms: number }) {
  const { sandbox, hook } = await sandboxWithClient({ clock: () => clock.ms });
  const answers: object[] = [];
  const recorder: typeof fetch = async (input, init) => {
    const answer = await fetch(input, init);
    const body: unknown = await answer.clone().json();
    if (answer.ok && typeof body === 'object' && body !== null) answers.push(body);
    return answer;
  };
  const stripe = new Stripe('sk_test_123', {
    host: '127.0.0.1',
    port: sandbox.port,
    protocol: 'http',
    maxNetworkRetries: 0,
    telemetry: false,
    httpClient: Stripe.createFetchHttpClient(recorder),
  });
  const { url, received } = await receiver();
  const { secret } = await stripe.webhookEndpoints.create({ url, enabled_events: ['*'] });
  return {
    sandbox,
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
