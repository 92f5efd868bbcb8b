import { formatId } from '../../shared/ids.ts';
import { append } from '../audit/append.ts';
import type { Database } from '../database/connection.ts';
import { Account } from '../database/entities/account.ts';
import { WebhookEndpoint } from '../database/entities/webhooks.ts';
import { queueEmail } from '../notify/outbox.ts';
import type { ClaimedEndpoint } from './claim.ts';
import { lockFeed } from './record-event.ts';

/** Pauses an endpoint that wants or gets nothing any more, and tells its account. Its events are kept. */
export async function pauseEndpoint(
  db: Database,
  { id, accountId, url }: Pick<ClaimedEndpoint, 'id' | 'accountId' | 'url'>,
  reason: 'gone' | 'failing',
  now: Date,
): Promise<void> {
  await db.transactionOn(accountId, async (tx) => {
    await lockFeed(tx, accountId);
    const paused = await tx.nativeUpdate(
      WebhookEndpoint,
      { id, active: true, deletedAt: null },
      { active: false, disabledAt: now },
    );
    // Its owner was faster.
    if (paused === 0) return;
    const naturalKey = `webhook_endpoint.paused:${id}:${now.getTime()}`;
    await append(tx, {
      accountId,
      action: 'webhook_endpoint.updated',
      targetResourceId: formatId('whk', id),
      payload: { active: false, reason },
      actor: { type: 'system' },
      dedupeKey: naturalKey,
      now,
    });
    const { email: to } = await tx.findOneOrFail(Account, accountId);
    // The path may hold a secret of the owner's; the host tells which endpoint it is.
    const data = { host: new URL(url).host, reason, pausedAt: now };
    await queueEmail(tx, { accountId, to, template: 'webhook_endpoint_paused', data, naturalKey }, now);
  });
}
