import type { PoolClient } from 'pg';
import { aheadOf, type Clock } from '../../shared/time.ts';
import type { Database, Tx } from './connection.ts';
import type { Log } from './log.ts';
import { repeat, type Series } from './recurring.ts';

/** What can be due: accounts to look at, events without an account, mails, webhook endpoints, ends of trial packs. */
export type Kind = 'account' | 'stripe_event' | 'email' | 'endpoint' | 'trial_pack';

/** What `pg_notify` is called with; its payload is the kind. */
export const CHANNEL = 'driftstack_due';

/** Tells all workers, once the caller's transaction has committed, that something of this kind is due. */
export async function notifyDue(tx: Tx, kind: Kind): Promise<void> {
  await tx.execute('select pg_notify(?, ?)', [CHANNEL, kind]);
}

const LOOK_MS = 1_000;
const LISTEN_AGAIN_MS = 5_000;

const free = '(leased_until is null or leased_until <= now())';
/** By the clock that tells customers' time: the database's, and what the local Stripe's is ahead of it. */
const THEIRS = "now() + $1 * interval '1 millisecond'";
const LOOK = `select
  exists (select from account_sync where due_at <= now() and ${free}) as account,
  exists (select from stripe_event where due_at <= now() and ${free}) as stripe_event,
  exists (select from email where due_at <= now() and ${free}) as email,
  exists (select from webhook_endpoint where active and deleted_at is null and next_due_at <= ${THEIRS}
          and ${free}) as endpoint,
  exists (select from trial_pack where due_at <= ${THEIRS}) as trial_pack`;

/**
 * Calls `wake` of a kind when something of it is due: within milliseconds of the commit that made it so, where the
 * database tells, and within a second anyhow. At rest that costs one statement a second, whatever the number of
 * kinds and of workers; where LISTEN is not to be had, as behind a pooler, nothing else changes.
 */
export function watchDue(
  { db, clock, log }: { db: Database; clock: Clock; log: Log },
  wake: Readonly<Partial<Record<Kind, () => void>>>,
): Series {
  const kinds = new Map(Object.entries(wake));
  const looking = repeat(
    async () => {
      const { rows } = await db.pool.query<Record<string, boolean>>({
        name: 'look-for-due',
        text: LOOK,
        values: [aheadOf(clock)],
      });
      for (const [kind, isDue] of Object.entries(rows[0] ?? {})) if (isDue) kinds.get(kind)?.();
    },
    {
      pauseMs: LOOK_MS,
      onError: (err) => log.warn({ err }, 'what is due could not be looked for; trying again'),
    },
  );
  const listening = repeat(async (signal) => listen(db, signal, (kind) => kinds.get(kind)?.()), {
    pauseMs: LISTEN_AGAIN_MS,
    onError: (err) => log.warn({ err }, 'the database tells nothing for now; it is asked every second'),
  });
  return {
    async close() {
      await Promise.all([looking.close(), listening.close()]);
    },
  };
}

/** Listens until the signal comes or the connection breaks. */
async function listen(db: Database, signal: AbortSignal, told: (kind: string) => void): Promise<void> {
  const client: PoolClient = await db.pool.connect();
  const ended = Promise.withResolvers<void>();
  const stop = (): void => ended.resolve();
  client.on('notification', ({ payload }) => told(payload ?? ''));
  client.on('error', ended.reject);
  client.on('end', stop);
  signal.addEventListener('abort', stop);
  try {
    await client.query(`listen ${CHANNEL}`);
    if (!signal.aborted) await ended.promise;
  } finally {
    signal.removeEventListener('abort', stop);
    // What listens cannot be lent to others.
    client.release(true);
  }
}
