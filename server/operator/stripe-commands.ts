import { ProblemError } from '../../shared/errors.ts';
import { redactSecrets } from '../../shared/redact.ts';
import type { Config } from '../config.ts';
import { connectStripe } from '../stripe/api/gateway.ts';
import { refusalDetails, verdictOn } from '../stripe/api/refusal.ts';
import { type SetUp, type SetUpOptions, setUpStripe } from '../stripe/set-up.ts';
import { type CommandContext, type Given, UsageError } from './command.ts';

/** `stripe setup`: what `commands.ts` says of it. */
export async function stripeSetup({ config, say, answer }: CommandContext, given: Given): Promise<void> {
  const done = await setUp(config, {
    webhookUrl: urlOf(given.option('webhook-url'), '--webhook-url'),
    portalReturnUrl: urlOf(given.option('portal-return-url'), '--portal-return-url'),
    dryRun: given.flag('dry-run'),
    onStep: ({ did, what, id, note }) =>
      say(`${did.padEnd(11)} ${what.padEnd(36)} ${id}${note && `  (${note})`}`),
  });
  if (done.webhook?.secret) say(`STRIPE_WEBHOOK_SECRETS, shown this once: ${done.webhook.secret}`);
  if (given.flag('dry-run')) say('Nothing was changed.');
  answer({
    prices: Object.fromEntries(done.prices),
    steps: done.steps,
    portal_configuration_id: done.portalConfigurationId,
    webhook_endpoint_id: done.webhook?.id ?? null,
    webhook_secret: done.webhook?.secret ?? null,
  });
  const wrong = done.steps.filter(({ did }) => did === 'wrong').map(({ what, id }) => `${what} ${id}`);
  if (wrong.length === 0) return;
  const mend = 'each line that begins with "wrong" says how';
  throw new ProblemError('conflict', `For you to mend at Stripe: ${wrong.join(', ')}; ${mend}.`);
}

function urlOf(given: string | undefined, option: string): string | null {
  if (given === undefined) return null;
  if (/^https?:$/.test(URL.parse(given)?.protocol ?? '')) return given;
  throw new UsageError(
    `${option} must be an http or https URL such as https://billing.your.app/webhooks/stripe`,
  );
}

/** Says in one sentence what to do where Stripe does not do as it is asked. */
async function setUp(config: Config, options: SetUpOptions): Promise<SetUp> {
  const connection = realStripe(config);
  try {
    return await setUpStripe(connectStripe(connection), options);
  } catch (error) {
    const { reason, status } = refusalDetails(error);
    if (status === undefined && !isOfStripe(error)) throw error;
    const said = redactSecrets(String(reason).split('\n')[0] ?? '');
    throw new ProblemError(
      'internal',
      `${adviceOn(error, Number(status), connection.apiBase)} Stripe says: ${said}`,
    );
  }
}

const isOfStripe = (error: unknown): boolean => error instanceof Error && 'rawType' in error;

function adviceOn(error: unknown, status: number, apiBase: string): string {
  const again = 'what was done stays done, so run this again';
  if (status === 401)
    return 'Stripe does not accept STRIPE_SECRET_KEY: check it in the Dashboard, under API keys.';
  if (status === 403) {
    return `STRIPE_SECRET_KEY lacks a permission; it needs to write products, prices, portal and webhook endpoints: give it to the key, and ${again}.`;
  }
  if (verdictOn(error) === 'away') {
    return `Stripe at ${apiBase} could not be reached or is busy: ${again} in a minute.`;
  }
  return `Stripe has refused a step of this: mend what it names, and ${again}.`;
}

function realStripe({ stripe }: Config): Parameters<typeof connectStripe>[0] {
  if (stripe.kind === 'real') return stripe;
  throw new UsageError('STRIPE_SECRET_KEY is not set: the local Stripe needs no setup');
}
