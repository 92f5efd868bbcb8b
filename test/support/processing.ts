import { setTimeout as delay } from 'node:timers/promises';
import { watchDue } from '../../server/database/due.ts';
import { AccountSync } from '../../server/database/entities/account.ts';
import { StripeEvent } from '../../server/database/entities/journal.ts';
import { claimOne } from '../../server/database/lease.ts';
import type { Series } from '../../server/database/recurring.ts';
import type { SyncDeps } from '../../server/stripe/deps.ts';
import { underLease } from '../../server/stripe/sync/account-lease.ts';
import {
  processAccount,
  processOwnerless,
  startAccountCrew,
  startOwnerCrew,
} from '../../server/stripe/sync/worker.ts';

const PATIENCE_MS = 30_000;

/**
 * Processes these events and all that wait for their accounts, by the worker's own functions and whether or not they
 * are due, and returns those that wait on, each with the reason. Accounts go side by side.
 */
export async function processEvents(
  deps: SyncDeps,
  eventIds: readonly string[],
): Promise<ReadonlyMap<string, string>> {
  const { db } = deps;
  const waiting = () =>
    db.orm.em
      .fork()
      .find(StripeEvent, { id: { $in: [...eventIds] }, state: 'received' }, { exclude: ['raw'] });
  const ofAccount = (accountId: string) =>
    underLease(db, accountId, PATIENCE_MS, ({ lease, signal }) =>
      processAccount(deps, { key: accountId, lease }, signal),
    );
  const read = await waiting();
  const accounts = new Set(read.flatMap(({ accountId }) => accountId ?? []));
  await Promise.all([
    ...[...accounts].map(ofAccount),
    ...read
      .filter(({ accountId }) => !accountId)
      .map(async ({ id }) => {
        await processOwnerless(deps, await leaseEvent(deps, id));
        const named = await db.orm.em.fork().findOne(StripeEvent, { id, state: 'received' });
        if (named?.accountId) await ofAccount(named.accountId);
      }),
  ]);
  const failures = new Map<string, string>();
  for (const { id, accountId, error } of await waiting()) {
    const sync = accountId ? await db.orm.em.fork().findOne(AccountSync, { accountId }) : null;
    failures.set(id, error ?? sync?.reason ?? 'it waits, and nobody says why');
  }
  return failures;
}

async function leaseEvent({ db }: SyncDeps, key: string) {
  const endsAtMs = performance.now() + PATIENCE_MS;
  for (;;) {
    const claim = await claimOne(db, 'stripe_event', key);
    if (claim) return { key, lease: claim.lease };
    if (performance.now() > endsAtMs) throw new Error(`The event ${key} is worked on all the time`);
    await delay(20);
  }
}

/** The crews of a worker that process events, as the service starts them. */
export function startProcessing(deps: SyncDeps): Series {
  const crews = { account: startAccountCrew(deps), stripe_event: startOwnerCrew(deps) };
  const watch = watchDue(deps, {
    account: () => crews.account.wake(),
    stripe_event: () => crews.stripe_event.wake(),
  });
  return {
    async close() {
      await watch.close();
      await Promise.all([crews.account.close(), crews.stripe_event.close()]);
    },
  };
}
