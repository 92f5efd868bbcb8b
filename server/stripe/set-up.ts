import type { StripeGateway } from './api/gateway.ts';
import { type Endpoint, setUpEndpoint } from './set-up/endpoint.ts';
import { setUpPortal } from './set-up/portal.ts';
import { setUpPrices } from './set-up/prices.ts';
import type { Step } from './set-up/steps.ts';

export type SetUpOptions = {
  /** Where Stripe sends its events; null leaves webhook endpoints alone. */
  webhookUrl: string | null;
  /** Where the portal leads back to when a call names nothing; null for no link. */
  portalReturnUrl?: string | null;
  /** Changes nothing and says what it would do. */
  dryRun?: boolean;
  /** Told of each step as it is done, so that a run that fails has said how far it came. */
  onStep?: (step: Step) => void;
};

export type SetUp = {
  /** Lookup key -> price id. */
  prices: ReadonlyMap<string, string>;
  steps: readonly Step[];
  portalConfigurationId: string;
  /** The secret is shown by Stripe once: null for an endpoint that was there before. */
  webhook: Endpoint | null;
};

/**
 * Brings a Stripe account, whatever is in it, to what this service needs: a product per tier, a price per lookup
 * key, the trial pack, the portal's configuration and the webhook endpoint, pinned to the API version of the SDK.
 * Running it again, or twice at once, changes nothing that is right. Throws Stripe's own errors.
 */
export async function setUpStripe(
  { sdk: stripe }: Pick<StripeGateway, 'sdk'>,
  { webhookUrl, portalReturnUrl = null, dryRun = false, onStep }: SetUpOptions,
): Promise<SetUp> {
  const steps: Step[] = [];
  const tell = (step: Step) => {
    steps.push(step);
    onStep?.(step);
  };
  const run = { stripe, tell, dryRun };
  const sold = await setUpPrices(run);
  const portalConfigurationId = await setUpPortal(run, sold, portalReturnUrl);
  const webhook = webhookUrl === null ? null : await setUpEndpoint(run, webhookUrl);
  const prices = new Map([...sold].map(([lookupKey, { id }]) => [lookupKey, id]));
  return { prices, steps, portalConfigurationId, webhook };
}
