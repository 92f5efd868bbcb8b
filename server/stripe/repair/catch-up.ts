import type Stripe from 'stripe';
import { z } from 'zod';
import type { Clock } from '../../../shared/time.ts';
import type { Database } from '../../database/connection.ts';
import type { Log } from '../../database/log.ts';
import { saveTurn, takeTurn } from '../../database/recurring.ts';
import type { StripeGateway } from '../api/gateway.ts';
import { EVENT_LISTS, parseEvent } from '../events.ts';
import { createEventStore } from '../inbox/event-store.ts';
import { store } from '../inbox/intake.ts';

export type CatchUpDeps = {
  db: Database;
  gateway: Pick<StripeGateway, 'listEvents'>;
  clock: Clock;
  log: Log;
  /** Whether this deployment uses a live key. */
  livemode: boolean;
};

const EVERY_MS = 60_000;
/** Longer than any page takes; after that another process goes on. */
const LEASE_MS = 120_000;
/** An event can be listed later than its time says, so the last minutes are looked at again. */
const OVERLAP_S = 300;
/** So long an event is still on its way to the door, and not missed. */
const ON_ITS_WAY_S = 30;
/** What one run reads at most; the next one goes on from there. */
const MOST_PAGES = 20;

/**
 * Asks Stripe for the events that never arrived and stores them as if they had: whatever was
 * lost on the way is processed a minute later. Done by one process at a time, once a minute; null where it is not
 * due. Returns how many were missed. How far it came is counted in Stripe's own time, as far as it is not ahead of
 * ours.
 */
export async function catchUp(deps: CatchUpDeps): Promise<number | null> {
  const { db, clock, gateway } = deps;
  const now = clock.now();
  let turn = await takeTurn(db, 'stripe-catch-up', { now, leaseMs: LEASE_MS });
  if (!turn) return null;
  const progress = readProgress(turn.progress, now);
  let missed = 0;
  let isDone = true;
  for (const [at, types] of EVENT_LISTS.entries()) {
    for (let pages = 1; ; pages++) {
      const { reachedS, walk: begun } = progress[at] ?? startingAt(now);
      const walk = begun ?? { sinceS: reachedS - OVERLAP_S, newestS: 0, after: null };
      const page = await gateway.listEvents({ types, sinceS: walk.sinceS, after: walk.after });
      if (page === null) {
        progress[at] = { reachedS, walk: null };
        continue;
      }
      missed += await storeMissing(deps, page.data, now);
      progress[at] = advance(reachedS, walk, page, now);
      const isOver = progress[at].walk === null;
      const untilMs = clock.now().getTime() + LEASE_MS;
      turn = await saveTurn(db, turn, progress, new Date(untilMs));
      isDone &&= isOver || pages < MOST_PAGES;
      if (isOver || pages >= MOST_PAGES) break;
    }
  }
  await saveTurn(db, turn, progress, new Date(clock.now().getTime() + (isDone ? EVERY_MS : 0)));
  if (missed > 0) deps.log.warn({ missed }, 'events of Stripe had not arrived and were caught up');
  return missed;
}

const listProgress = z.object({
  /** Everything of this list that Stripe created before this has been stored; unix seconds. */
  reachedS: z.int(),
  /** Where a walk through the list stands, from the newest back to `sinceS`. */
  walk: z.object({ sinceS: z.int(), newestS: z.int(), after: z.string().nullable() }).nullable(),
});
type Progress = z.infer<typeof listProgress>;
/** Before there were several lists, that of the first one was all. */
const stored = z.union([z.array(listProgress), listProgress.transform((first) => [first])]);

/** Where each list stands. One that is new is looked at from where we stopped looking at the first. */
function readProgress(found: unknown, now: Date): Progress[] {
  const progress = found === null ? [] : stored.parse(found);
  const { reachedS } = progress[0] ?? startingAt(now);
  return EVENT_LISTS.map((_, at) => progress[at] ?? { reachedS, walk: null });
}

/** How far ahead of Stripe's our clock may be at the first run, without events being lost for it. */
const SKEW_S = 2 * 3_600;

/** Nothing of ours can have happened at Stripe before our first run. */
function startingAt(now: Date): Progress {
  return { reachedS: Math.floor(now.getTime() / 1000) - SKEW_S, walk: null };
}

function advance(
  reachedS: number,
  walk: NonNullable<Progress['walk']>,
  { data, has_more: hasMore }: Stripe.ApiList<Stripe.Event>,
  now: Date,
): Progress {
  const newestS = Math.max(walk.newestS, data[0]?.created ?? 0);
  const last = data.at(-1);
  // Only a walk that came to its end has seen everything between.
  if (hasMore && last) return { reachedS, walk: { ...walk, newestS, after: last.id } };
  // A test clock makes events of our future, and those of the present still come: so never further than now.
  const nowS = Math.floor(now.getTime() / 1000);
  return { reachedS: Math.min(Math.max(reachedS, newestS), nowS), walk: null };
}

async function storeMissing(deps: CatchUpDeps, events: readonly Stripe.Event[], now: Date): Promise<number> {
  const nowS = now.getTime() / 1000;
  // By the distance: a Stripe whose clock was put ahead, as the local one's can be, has events of our future.
  const late = events.filter(({ created }) => Math.abs(nowS - created) > ON_ITS_WAY_S);
  const { rows } = await deps.db.pool.query<{ id: string }>(
    'select id from stripe_event where id = any($1)',
    [late.map(({ id }) => id)],
  );
  const known = new Set(rows.map(({ id }) => id));
  const eventStore = createEventStore(deps.db);
  let missed = 0;
  for (const event of late) {
    if (known.has(event.id)) continue;
    const rawBody = Buffer.from(JSON.stringify(event));
    const parsed = parseEvent(rawBody);
    if (!parsed) {
      // It must not stand in the way of the others; Stripe keeps it for 30 days.
      deps.log.error({ eventId: event.id }, 'Stripe lists an event that we do not understand');
      continue;
    }
    if ((await store({ ...deps, events: eventStore }, { event: parsed, rawBody }, now)) === 'stored')
      missed += 1;
  }
  return missed;
}
