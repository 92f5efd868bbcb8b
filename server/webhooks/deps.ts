import { ProblemError } from '../../shared/errors.ts';
import { type IdPrefix, parseId } from '../../shared/ids.ts';
import type { Clock } from '../../shared/time.ts';
import type { Actor } from '../audit/append.ts';
import type { Database, Tx } from '../database/connection.ts';
import { WebhookEndpoint } from '../database/entities/webhooks.ts';
import type { DestinationPolicy } from './destination.ts';
import { lockFeed } from './record-event.ts';
import type { SecretKeys } from './secrets.ts';

/** What the functions of webhooks work with. */
export type WebhookDeps = SecretKeys & {
  readonly db: Database;
  readonly clock: Clock;
  readonly destinations: DestinationPolicy;
  /**
   * Runs the one transaction on its account in which a call that writes ends. Under an Idempotency-Key it also claims
   * the key and keeps the answer, which is what the transaction returns; else it is the database's own.
   */
  readonly commit: Database['transactionOn'];
};

/** Who calls; uuids. */
export type WebhookCaller = {
  readonly accountId: string;
  readonly keyId: string;
  readonly requestId: string;
};

export function actorOf({ accountId, keyId }: WebhookCaller): Actor {
  return { type: 'customer', accountId, keyId };
}

/** Reads the uuid of the id a caller gave; throws `bad-request` naming the parameter `id`. */
export function readId(prefix: IdPrefix, text: string): string {
  const id = parseId(prefix, text);
  if (id !== null) return id;
  const message = `must be ${prefix}_ and a uuid`;
  throw new ProblemError('bad-request', `id ${message}.`, { errors: [{ field: 'id', message }] });
}

/**
 * The account's endpoint, with the account locked, and then the endpoint itself: a dispatcher that writes down
 * what came of its deliveries has been there before, or waits. Deleted, another account's and unknown are all
 * `not-found`.
 */
export async function lockEndpoint(
  tx: Tx,
  accountId: string,
  id: string,
  absent: () => ProblemError = noEndpoint,
): Promise<{ endpoint: WebhookEndpoint; position: number }> {
  const { position } = await lockFeed(tx, accountId);
  await tx.execute('select 1 from webhook_endpoint where id = ? and account_id = ? for no key update', [
    id,
    accountId,
  ]);
  const endpoint = await tx.findOne(WebhookEndpoint, { id, accountId, deletedAt: null });
  if (!endpoint) throw absent();
  return { endpoint, position };
}

export function noEndpoint(): ProblemError {
  return new ProblemError('not-found', 'This account has no such webhook endpoint.');
}
