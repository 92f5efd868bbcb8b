import type { Database } from '../database/connection.ts';
import { WebhookEndpoint } from '../database/entities/webhooks.ts';
import { lockFeed } from './record-event.ts';
import { type SecretKeys, seal, signsAsWell, tryUnseal, unseal } from './secrets.ts';

export type Reencrypted = {
  /** Endpoints that are not deleted. */
  readonly checked: number;
  readonly changed: number;
  /** The uuids of those that none of the keys opens; they are left as they are. */
  readonly unreadable: readonly string[];
};

const PAGE = 500;

/**
 * Encrypts every secret under the first key that stands under an older one, so that the older ones can be taken
 * away. Deliveries go on meanwhile. Safe to run at any time and any number of times.
 */
export async function reencryptSecrets(db: Database, keys: SecretKeys, now: Date): Promise<Reencrypted> {
  let [checked, changed] = [0, 0];
  const unreadable: string[] = [];
  for (let after: string | null = null; ; ) {
    const page: WebhookEndpoint[] = await db.orm.em
      .fork()
      .find(
        WebhookEndpoint,
        { deletedAt: null, ...(after !== null && { id: { $gt: after } }) },
        { orderBy: { id: 'asc' }, limit: PAGE },
      );
    for (const endpoint of page) {
      checked += 1;
      if (standing(keys, endpoint, now) === 'current') continue;
      const found = await reencryptOne(db, keys, endpoint, now);
      if (found === 'old') changed += 1;
      if (found === 'unreadable') unreadable.push(endpoint.id);
    }
    after = page.at(-1)?.id ?? null;
    if (after === null || page.length < PAGE) return { checked, changed, unreadable };
  }
}

/** Answers how it stood, with the account locked: whoever rotates a secret waits, or has been there before us. */
async function reencryptOne(
  db: Database,
  keys: SecretKeys,
  { id, accountId }: Pick<WebhookEndpoint, 'id' | 'accountId'>,
  now: Date,
): Promise<Standing> {
  return await db.transactionOn(accountId, async (tx) => {
    await lockFeed(tx, accountId);
    const endpoint = await tx.findOneOrFail(WebhookEndpoint, id);
    const found = standing(keys, endpoint, now);
    if (found !== 'old') return found;
    const anew = (sealed: Buffer): Buffer => seal(keys.secretKey, id, unseal(keys, id, sealed));
    await tx.nativeUpdate(
      WebhookEndpoint,
      { id },
      {
        secret: anew(endpoint.secret),
        ...(endpoint.prevSecret &&
          signsAsWell(endpoint.rotationGraceExpiresAt, now) && { prevSecret: anew(endpoint.prevSecret) }),
      },
    );
    return found;
  });
}

type Standing = 'current' | 'old' | 'unreadable';

function standing(keys: SecretKeys, endpoint: WebhookEndpoint, now: Date): Standing {
  const { id, secret, prevSecret, rotationGraceExpiresAt } = endpoint;
  // After the grace the secret before is of no use to anybody, whatever it stands under.
  const used = [secret, ...(prevSecret && signsAsWell(rotationGraceExpiresAt, now) ? [prevSecret] : [])];
  const opens = (by: SecretKeys): boolean => used.every((sealed) => tryUnseal(by, id, sealed) !== null);
  if (opens({ secretKey: keys.secretKey })) return 'current';
  return opens(keys) ? 'old' : 'unreadable';
}
