import { join } from 'node:path';
import { connectStripe, type StripeGateway } from '../../server/stripe/api/gateway.ts';
import { setUpStripe } from '../../server/stripe/set-up.ts';
import { lookupKey } from '../../shared/catalog.ts';
import type { Child } from './child.ts';
import type { Bench } from './section.ts';

export type LocalStripe = {
  readonly child: Child;
  readonly sdk: StripeGateway['sdk'];
  /** What `api_builder` costs by the month. */
  readonly price: string;
};

export const SECRET_KEY = 'sk_test_bench';

let opened = 0;

/** Starts a local Stripe of its own, with the catalogue in it and no webhook endpoint. */
export async function startLocalStripe(bench: Bench): Promise<LocalStripe> {
  const child = await bench.startChild('stripe', {
    dataPath: join(bench.directory, `stripe-${++opened}.sqlite`),
  });
  const gateway = connectStripe({ secretKey: SECRET_KEY, apiBase: child.url, timeoutMs: 30_000 });
  await setUpStripe(gateway, { webhookUrl: null });
  return { child, sdk: gateway.sdk, price: await gateway.priceId(lookupKey('api_builder', 'monthly')) };
}

/** Does `work` for 0 … count - 1, so many at a time, and answers the results in order. */
export async function inParallel<T>(
  count: number,
  atOnce: number,
  work: (index: number) => Promise<T>,
): Promise<T[]> {
  const results: T[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let index = next++; index < count; index = next++) results[index] = await work(index);
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
  return results;
}
