import type { Config } from '../config.ts';
import { connectStripe } from '../stripe/gateway.ts';
import { setUpStripe } from '../stripe/set-up.ts';
import { type Command, UsageError } from './command.ts';

/** What an operator does once for a Stripe account. The local Stripe is set up by every start. */
export const STRIPE_COMMANDS: readonly Command[] = [
  {
    name: 'stripe setup',
    usage: '[--webhook-url URL] [--portal-return-url URL] [--json]',
    summary: 'Make products, prices, portal and webhook endpoint in Stripe; safe to repeat',
    options: ['webhook-url', 'portal-return-url'],
    async run({ config, say, answer }, given) {
      const webhookUrl = given.option('webhook-url') ?? null;
      if (webhookUrl !== null && !URL.canParse(webhookUrl)) {
        throw new UsageError('--webhook-url must be a URL such as https://billing.your.app/webhooks/stripe');
      }
      const gateway = connectStripe(realStripe(config));
      const done = await setUpStripe(gateway, {
        webhookUrl,
        portalReturnUrl: given.option('portal-return-url') ?? null,
      });
      for (const [lookupKey, price] of done.prices) {
        say(`${done.created.includes(lookupKey) ? 'created' : 'found  '}  ${lookupKey.padEnd(36)} ${price}`);
      }
      say(`portal   ${done.portalConfigurationId}`);
      if (done.webhook?.secret)
        say(`webhook  ${done.webhook.id}\nSTRIPE_WEBHOOK_SECRETS, shown this once: ${done.webhook.secret}`);
      else if (done.webhook)
        say(`webhook  ${done.webhook.id} was there before; its secret is the one Stripe showed then`);
      answer({
        prices: Object.fromEntries(done.prices),
        created: done.created,
        portal_configuration_id: done.portalConfigurationId,
        webhook_endpoint_id: done.webhook?.id ?? null,
        webhook_secret: done.webhook?.secret ?? null,
      });
    },
  },
];

function realStripe({ stripe }: Config): Parameters<typeof connectStripe>[0] {
  if (stripe.kind === 'real') return stripe;
  throw new UsageError('STRIPE_SECRET_KEY is not set: the local Stripe needs no setup');
}
