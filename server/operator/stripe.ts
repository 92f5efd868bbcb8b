import type { Config } from '../config.ts';
import { connectStripe, type StripeGateway } from '../stripe/gateway.ts';

/** Any key that begins so is welcome at the local Stripe. */
const LOCAL_KEY = 'sk_test_driftstack_local';

/** The Stripe that this deployment works with: the real one, or the local one that `npm start` runs. */
export function reachStripe({ stripe }: Config): StripeGateway {
  return stripe.kind === 'real'
    ? connectStripe(stripe)
    : connectStripe({ secretKey: LOCAL_KEY, apiBase: `http://127.0.0.1:${stripe.port.number}` });
}
