import { formatId } from '../../shared/ids.ts';
import { toWireTime } from '../../shared/time.ts';
import type {
  EndpointListInput,
  EndpointListResult,
  WebhookEndpoint as WireEndpoint,
} from '../../shared/webhooks.ts';
import type { Tx } from '../database/connection.ts';
import { decodeCursor, encodeCursor } from '../database/cursor.ts';
import { WebhookEndpoint } from '../database/entities/webhooks.ts';
import { noEndpoint, readId, type WebhookDeps } from './deps.ts';
import { signsAsWell } from './secrets.ts';

const LIST = 'webhooks';

/** One page of the account's endpoints, newest first. Deleted ones are not among them. */
export async function listEndpoints(
  { db, clock }: Pick<WebhookDeps, 'db' | 'clock'>,
  accountId: string,
  { limit, cursor }: EndpointListInput,
): Promise<EndpointListResult> {
  const rows = await db.orm.em.fork().find(
    WebhookEndpoint,
    {
      accountId,
      deletedAt: null,
      ...(cursor !== undefined && { position: { $lt: decodeCursor(LIST, accountId, cursor) } }),
    },
    { orderBy: { position: 'desc' }, limit: limit + 1 },
  );
  const page = rows.slice(0, limit);
  const last = page.at(-1);
  const now = clock.now();
  return {
    data: page.map((endpoint) => toWire(endpoint, now)),
    next_cursor: rows.length > limit && last ? encodeCursor(LIST, accountId, last.position) : null,
  };
}

/** One endpoint of the account, by its id on the wire. Throws `not-found` for any other. */
export async function getEndpoint(
  { db, clock }: Pick<WebhookDeps, 'db' | 'clock'>,
  accountId: string,
  { id }: { id: string },
): Promise<WireEndpoint> {
  return await readEndpoint(db.orm.em.fork(), accountId, readId('whk', id), clock.now());
}

/** The same within a transaction, by its uuid. */
export async function readEndpoint(em: Tx, accountId: string, id: string, now: Date): Promise<WireEndpoint> {
  const endpoint = await em.findOne(WebhookEndpoint, { id, accountId, deletedAt: null }, { refresh: true });
  if (!endpoint) throw noEndpoint();
  return toWire(endpoint, now);
}

function toWire(endpoint: WebhookEndpoint, now: Date): WireEndpoint {
  const grace = endpoint.rotationGraceExpiresAt ?? null;
  const inGrace = signsAsWell(grace, now);
  return {
    id: formatId('whk', endpoint.id),
    url: endpoint.url,
    secret_prefix: endpoint.secretPrefix,
    prev_secret_prefix: inGrace ? (endpoint.prevSecretPrefix ?? null) : null,
    rotation_grace_expires_at: inGrace ? wireOrNull(grace) : null,
    events: endpoint.events,
    description: endpoint.description ?? null,
    active: endpoint.active,
    consecutive_failures: endpoint.consecutiveFailures,
    last_success_at: wireOrNull(endpoint.lastSuccessAt),
    last_failure_at: wireOrNull(endpoint.lastFailureAt),
    disabled_at: wireOrNull(endpoint.disabledAt),
    delivery_counts: {
      delivered: endpoint.deliveredCount,
      failed: endpoint.failedCount,
      dlq: endpoint.dlqCount,
    },
    created_at: toWireTime(endpoint.createdAt),
  };
}

export function wireOrNull(date: Date | null | undefined): string | null {
  return date ? toWireTime(date) : null;
}
