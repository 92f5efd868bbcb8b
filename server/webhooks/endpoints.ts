import { ProblemError } from '../../shared/errors.ts';
import { formatId } from '../../shared/ids.ts';
import {
  type CreatedEndpoint,
  type CreateEndpointInput,
  MAX_ENDPOINTS,
  type UpdateEndpointInput,
  type WebhookEndpoint as WireEndpoint,
} from '../../shared/webhooks.ts';
import { append } from '../audit/append.ts';
import { Account } from '../database/entities/account.ts';
import { WebhookEndpoint } from '../database/entities/webhooks.ts';
import { uuidv7 } from '../database/uuid.ts';
import { actorOf, lockEndpoint, noEndpoint, readId, type WebhookCaller, type WebhookDeps } from './deps.ts';
import { checkDestination } from './destination.ts';
import { readEndpoint } from './list-endpoints.ts';
import { lockFeed } from './record-event.ts';
import { newSecret, prefixOf, seal, tryUnseal } from './secrets.ts';

const DAY_MS = 86_400_000;

/** Registers an endpoint and answers its secret, once. Throws `conflict` when the account has ten already. */
export async function createEndpoint(
  deps: WebhookDeps,
  caller: WebhookCaller,
  { url, events, description = null }: CreateEndpointInput,
): Promise<CreatedEndpoint> {
  const { accountId } = caller;
  const now = deps.clock.now();
  const id = uuidv7(now);
  const secret = newSecret();
  const sealed = seal(deps.secretKey, id, secret);
  await requireDestination(deps, url);
  return await deps.commit(accountId, async (tx) => {
    const head = await lockFeed(tx, accountId);
    if ((await tx.count(WebhookEndpoint, { accountId, deletedAt: null })) >= MAX_ENDPOINTS) {
      throw new ProblemError(
        'conflict',
        `An account can have ${MAX_ENDPOINTS} webhook endpoints. Delete one first.`,
        {
          code: 'too_many_webhook_endpoints',
        },
      );
    }
    const position = head.position + 1;
    await tx.nativeUpdate(Account, { id: accountId }, { webhookPosition: position });
    await tx.insert(WebhookEndpoint, {
      id,
      accountId,
      position,
      url,
      description,
      events,
      secret: sealed,
      secretPrefix: prefixOf(secret),
      createdAt: now,
    });
    await append(tx, {
      accountId,
      action: 'webhook_endpoint.created',
      targetResourceId: formatId('whk', id),
      payload: { events, active: true, request_id: caller.requestId },
      actor: actorOf(caller),
      dedupeKey: `webhook_endpoint.created:${id}`,
      now,
    });
    return { ...(await readEndpoint(tx, accountId, id, now)), secret };
  });
}

/**
 * Changes what is given. `active: false` pauses, and events are kept; `active: true` starts with a clean slate
 * and sends what was kept at once.
 */
export async function updateEndpoint(
  deps: WebhookDeps,
  caller: WebhookCaller,
  { id: wireId, ...patch }: UpdateEndpointInput,
): Promise<WireEndpoint> {
  const { accountId } = caller;
  const id = readId('whk', wireId);
  if (Object.values(patch).every((value) => value === undefined)) {
    const message = 'must hold at least one of url, events, description, active';
    throw new ProblemError('validation-failed', `The body ${message}.`, { errors: [{ field: '', message }] });
  }
  // Whose it is comes first: an address that is looked up for a stranger's endpoint would tell that it exists.
  await readEndpoint(deps.db.orm.em.fork(), accountId, id, deps.clock.now());
  if (patch.url !== undefined) await requireDestination(deps, patch.url);
  const now = deps.clock.now();
  return await deps.commit(accountId, async (tx) => {
    const { endpoint } = await lockEndpoint(tx, accountId, id);
    const { url, events, description, active } = patch;
    const resumes = active === true && !endpoint.active;
    await tx.nativeUpdate(
      WebhookEndpoint,
      { id },
      {
        ...(url !== undefined && { url }),
        ...(events !== undefined && { events }),
        ...(description !== undefined && { description }),
        ...(active !== undefined && { active, disabledAt: active ? null : (endpoint.disabledAt ?? now) }),
        ...(resumes && { consecutiveFailures: 0, failingSince: null, heldUntil: null, nextDueAt: now }),
      },
    );
    // What was to be tried much later has waited long enough; all else is due already, however much it is.
    if (resumes) {
      await tx.execute(
        `update webhook_delivery set next_attempt_at = ? where id in (
           select id from webhook_delivery
            where endpoint_id = ? and state in ('pending', 'failed') and next_attempt_at > ?
            order by position for no key update)`,
        [now, id, now],
      );
    }
    const { url: _, ...told } = patch;
    await append(tx, {
      accountId,
      action: 'webhook_endpoint.updated',
      targetResourceId: formatId('whk', id),
      // An address may hold a secret of its owner's; that it changed is enough.
      payload: { ...told, ...(url !== undefined && { url_changed: true }), request_id: caller.requestId },
      actor: actorOf(caller),
      dedupeKey: `webhook_endpoint.updated:${id}:${uuidv7(now)}`,
      now,
    });
    return await readEndpoint(tx, accountId, id, now);
  });
}

/** Deletes an endpoint for good; what was on its way to it is not sent. Deleting it again changes nothing. */
export async function deleteEndpoint(
  deps: WebhookDeps,
  caller: WebhookCaller,
  { id: wireId }: { id: string },
): Promise<void> {
  const { accountId } = caller;
  const id = readId('whk', wireId);
  const now = deps.clock.now();
  await deps.commit(accountId, async (tx) => {
    await lockFeed(tx, accountId);
    const endpoint = await tx.findOne(WebhookEndpoint, { id, accountId });
    if (!endpoint) throw noEndpoint();
    if (endpoint.deletedAt) return;
    await tx.nativeUpdate(WebhookEndpoint, { id }, { active: false, disabledAt: now, deletedAt: now });
    await append(tx, {
      accountId,
      action: 'webhook_endpoint.deleted',
      targetResourceId: formatId('whk', id),
      payload: { request_id: caller.requestId },
      actor: actorOf(caller),
      dedupeKey: `webhook_endpoint.deleted:${id}`,
      now,
    });
  });
}

/**
 * Gives an endpoint a new secret, answered once. The one before signs as well for 24 hours, unless it cannot be
 * read any more: then the new one is the way out.
 */
export async function rotateSecret(
  deps: WebhookDeps,
  caller: WebhookCaller,
  { id: wireId }: { id: string },
): Promise<CreatedEndpoint> {
  const { accountId } = caller;
  const id = readId('whk', wireId);
  const now = deps.clock.now();
  const secret = newSecret();
  const sealed = seal(deps.secretKey, id, secret);
  return await deps.commit(accountId, async (tx) => {
    const { endpoint } = await lockEndpoint(tx, accountId, id);
    const signsOn = tryUnseal(deps, id, endpoint.secret) !== null;
    await tx.nativeUpdate(
      WebhookEndpoint,
      { id },
      {
        secret: sealed,
        secretPrefix: prefixOf(secret),
        prevSecret: signsOn ? endpoint.secret : null,
        prevSecretPrefix: signsOn ? endpoint.secretPrefix : null,
        rotationGraceExpiresAt: signsOn ? new Date(now.getTime() + DAY_MS) : null,
      },
    );
    await append(tx, {
      accountId,
      action: 'webhook_endpoint.secret_rotated',
      targetResourceId: formatId('whk', id),
      payload: { request_id: caller.requestId },
      actor: actorOf(caller),
      dedupeKey: `webhook_endpoint.secret_rotated:${id}:${uuidv7(now)}`,
      now,
    });
    return { ...(await readEndpoint(tx, accountId, id, now)), secret };
  });
}

async function requireDestination({ destinations }: WebhookDeps, url: string): Promise<void> {
  const checked = await checkDestination(destinations, url);
  if (!('refused' in checked)) return;
  throw new ProblemError('validation-failed', `url ${checked.refused}.`, {
    code: 'webhook_url_not_allowed',
    errors: [{ field: 'url', message: checked.refused }],
  });
}
