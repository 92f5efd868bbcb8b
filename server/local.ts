import { chmod, mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Config, LocalStripeConfig } from './config.ts';
import { MendableError } from './database/mendable.ts';
import { aheadSecondsIn } from './local-stripe/ahead.ts';
import { StateError } from './local-stripe/disk.ts';
import { type LocalStripe, startLocalStripe } from './local-stripe/local-stripe.ts';
import { localStripeAddress } from './operator/stripe.ts';
import { firstFree } from './ports.ts';
import type { StripeGateway } from './stripe/api/gateway.ts';
import { setUpStripe } from './stripe/set-up.ts';

/** Enough for a year of mails in a few seconds; at Resend's own limit, moving the clock would wait for each. */
export const MAILS_PER_SECOND = 50;

/**
 * Starts the local Stripe on the state of earlier starts. Its console reads `product` over HTTP, when it is asked.
 * Throws a MendableError where that state cannot be used.
 */
export async function openLocalStripe(
  { dataDir }: Pick<Config, 'dataDir'>,
  { port }: LocalStripeConfig,
  product: { baseUrl: string; token: string },
): Promise<LocalStripe> {
  await mkdir(dataDir, { recursive: true, mode: 0o700 });
  const dataPath = statePath({ dataDir });
  const localStripe = await firstFree(port, 'SANDBOX_PORT', (number) =>
    startLocalStripe({
      port: number,
      dataPath,
      product,
      mailsPerSecond: MAILS_PER_SECOND,
      awaitsFollower: true,
    }),
  ).catch((error: unknown) => {
    throw error instanceof StateError ? new MendableError(error.message, { cause: error }) : error;
  });
  const address = localStripeAddress({ dataDir });
  await writeFile(address, localStripe.url, { mode: 0o600 });
  await chmod(address, 0o600);
  return {
    ...localStripe,
    async close() {
      await localStripe.close();
      // A command that finds no address says that nothing runs, instead of asking one where nobody listens.
      await rm(address, { force: true });
    },
  };
}

function statePath({ dataDir }: Pick<Config, 'dataDir'>): string {
  return join(dataDir, 'stripe.sqlite');
}

/**
 * How far the clock of our local Stripe was moved ahead, in milliseconds, while it is stopped. Throws a MendableError
 * where its state cannot be read.
 */
export function stoppedAheadMs(config: Pick<Config, 'dataDir'>): number {
  try {
    return aheadSecondsIn(statePath(config)) * 1_000;
  } catch (error) {
    throw error instanceof StateError ? new MendableError(error.message, { cause: error }) : error;
  }
}

/**
 * Gives the local Stripe the catalogue, the portal and our endpoint. The endpoint of an earlier start is moved
 * to where we listen now, so that what it could not deliver then arrives; its secret is the local Stripe's to know.
 */
export async function wireLocalStripe(
  gateway: StripeGateway,
  localStripe: LocalStripe,
  webhookUrl: string,
): Promise<string> {
  const known = localStripe.world.hidden.get<{ endpoint: string }>('driftstack', 'webhook');
  if (known && localStripe.world.find('webhook_endpoint', known.endpoint)) {
    await gateway.sdk.webhookEndpoints.update(known.endpoint, { url: webhookUrl });
  }
  const { webhook } = await setUpStripe(gateway, { webhookUrl });
  if (webhook === null) throw new Error('the local Stripe made no webhook endpoint');
  localStripe.world.hidden.put('driftstack', 'webhook', { endpoint: webhook.id });
  const secret =
    webhook.secret ?? localStripe.world.hidden.get<{ secret: string }>('webhook_secret', webhook.id)?.secret;
  if (secret === undefined) throw new Error(`the local Stripe has lost the secret of ${webhook.id}`);
  return secret;
}
