import { type Crew, startCrew } from '../../database/crew.ts';
import { claimDue, giveBack, type Held, type Leased, renew } from '../../database/lease.ts';
import { raiseRefusal } from '../alarm.ts';
import type { SyncDeps } from '../deps.ts';
import { nameOwner, type OwnerDeps } from '../inbox/owner.ts';
import { fail, LeaseLost } from './account-lease.ts';
import { countFailure, reasonOf } from './failure.ts';
import { synchroniseUnder } from './synchronise.ts';
import { STRIPE_MS } from './turns.ts';

/** So many accounts are looked at side by side: while Stripe is read they hold nothing but their place. */
const ACCOUNTS = 32;
/** So many events side by side are those of which only Stripe can say whose they are. */
const OWNERLESS = 8;

/** Looks at accounts that are due, each under its lease. */
export function startAccountCrew(deps: SyncDeps): Crew {
  return crewOf(deps, { name: 'accounts', table: 'account_sync', places: ACCOUNTS }, (held, signal) =>
    processAccount(deps, held, signal),
  );
}

/** Finds out whose the events are that came without an account, which makes the account due. */
export function startOwnerCrew(deps: OwnerDeps): Crew {
  return crewOf(deps, { name: 'events', table: 'stripe_event', places: OWNERLESS }, (held) =>
    processOwnerless(deps, held),
  );
}

function crewOf(
  { db, log }: Pick<SyncDeps, 'db' | 'log'>,
  { name, table, places }: { name: string; table: Leased; places: number },
  work: (held: Held, signal: AbortSignal) => Promise<void>,
): Crew {
  return startCrew<Held>({
    ...{ name, places, log, work },
    async claim(free) {
      const { lease, keys } = await claimDue(db, table, free);
      return keys.map((key) => ({ lease, key }));
    },
    renew: (items) => renew(db, table, items),
  });
}

/**
 * Processes the events that wait for an account this process has the lease of, and lets go of it: done, or due again
 * after a pause where something failed.
 */
export async function processAccount(
  deps: SyncDeps,
  { key: accountId, lease }: Held,
  signal: AbortSignal,
): Promise<void> {
  const { db, log, clock } = deps;
  const held = { accountId, lease, signal };
  try {
    const terms = { cause: { kind: 'events' }, stripeMs: STRIPE_MS, keeps: false } as const;
    await synchroniseUnder(deps, held, terms);
  } catch (error) {
    if (error instanceof LeaseLost) {
      log.warn(
        { accountId },
        'an account was lost to another worker, or this one must end; nothing was written',
      );
      await giveBack(db, 'account_sync', { lease, keys: [accountId] }, 0);
      return;
    }
    raiseRefusal(deps, accountId, error);
    log.warn({ accountId, err: error }, 'an account could not be synchronised and will be tried again');
    const reason = reasonOf(error);
    const given = await db.transaction((tx) => fail(tx, held, { reason, now: clock.now() }));
    for (const eventId of given) tellGivenUp(deps, eventId, reason);
  }
}

/** Finds the account of an event that this process has the lease of, and lets go of it; due again where that failed. */
export async function processOwnerless(deps: OwnerDeps, held: Held): Promise<void> {
  const { db, clock, log } = deps;
  try {
    await nameOwner(deps, held);
  } catch (error) {
    raiseRefusal(deps, null, error);
    const reason = reasonOf(error);
    log.warn({ eventId: held.key, err: error }, 'the account of a Stripe event could not be found out');
    const { key, lease } = held;
    if (await db.transaction((tx) => countFailure(tx, key, error, { now: clock.now(), lease })))
      tellGivenUp(deps, key, reason);
  }
}

function tellGivenUp({ log }: Pick<SyncDeps, 'log'>, eventId: string, reason: string): void {
  log.error({ eventId, reason }, 'a Stripe event was given up; replay it once the reason is gone');
}
