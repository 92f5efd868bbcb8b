import { Client } from 'pg';
import { describe, it } from 'vitest';
import { isHandled } from '../../server/stripe/events.ts';
import { createTestDatabase } from '../support/database.ts';
import { openLocalBench } from '../support/local-stripe.ts';
import { reached } from '../support/states.ts';
import { type CrashPoint, startCrashProxy } from './support/crash-proxy.ts';
import { effectsIn } from './support/effects.ts';
import { live } from './support/life.ts';
import { type Mailed, startProvider } from './support/provider.ts';
import { STORIES, type Story } from './support/stories.ts';

/** `CRASH_AT=message` crashes within statements as well: half as many points again. */
const UNIT = process.env['CRASH_AT'] === 'message' ? 'message' : 'statement';
const TIMEOUT_MS = UNIT === 'message' ? 7_200_000 : 600_000;

describe.concurrent('a process that dies at any message to the database leaves the same effects as one that lives on', () => {
  it.for(STORIES)('$name', { timeout: TIMEOUT_MS }, async (story, { expect }) => {
    const scene = await setUp(story);
    try {
      const clean = await scene.run(null);
      expect(clean.news, 'the story has effects').toBeGreaterThan(0);
      for (const point of pointsOf(clean)) {
        const run = await scene.run(point);
        countPoint(point, clean.settled);
        const where = `${story.name}: crashed ${point.when} ${UNIT} ${point.at}`;
        expect(run.crashed, where).toBe(true);
        expect(run.effects, where).toEqual(clean.effects);
        expect(run.mailed, where).toEqual(clean.mailed);
      }
      const { messages, settled } = clean;
      console.log(`${story.name}: ${messages} ${UNIT}s, ${messages + settled.length} crashes`);
    } finally {
      await scene.close();
    }
  });
});

type Run = {
  effects: string[];
  mailed: Mailed[];
  news: number;
  messages: number;
  settled: number[];
  crashed: boolean;
};

/**
 * Before every message; and after those that left something behind, because what comes between such a one and the
 * next, such as a mail, has not happened yet. Inside a transaction both are the same.
 */
function pointsOf({ messages, settled }: Run): CrashPoint[] {
  const before = Array.from({ length: messages }, (_, index) => ({ at: index + 1, when: 'before' as const }));
  return [...before, ...settled.map((at) => ({ at, when: 'after' as const }))];
}

/** The account as it was before, in a database of which every run gets a copy, and what Stripe has to tell. */
async function setUp(story: Story) {
  const bench = await openLocalBench();
  const accountId = await story.before(bench);
  const mailedBefore = startProvider();
  const earlier = { gateway: bench.gateway, resend: mailedBefore, now: new Date(), undelivered: [] };
  await live(bench.db.url, earlier);
  const told: string[] = [];
  bench.localStripe.world.onEvent((event) => {
    if (isHandled(event.type)) told.push(JSON.stringify(event));
  });
  await story.happens(bench, accountId);
  const now = new Date(bench.localStripe.world.now() * 1_000);
  // A database can only be copied while nobody is connected to it.
  await bench.db.close();
  const template = new URL(bench.db.url).pathname.slice(1);
  const before = await effectsIn(bench.db.url, [accountId]);

  const run = async (point: CrashPoint | null): Promise<Run> => {
    const database = await createTestDatabase(template);
    const provider = startProvider();
    const around = { gateway: bench.gateway, resend: provider, now, undelivered: [...told] };
    const proxy = await startCrashProxy({ target: database.url, unit: UNIT, point });
    try {
      if (point === null) await live(proxy.url, around);
      else {
        // Whether it notices or gets by: what it leaves behind is all that counts.
        await live(proxy.url, around).catch((error: unknown) => {
          if (!proxy.crashed()) throw error;
        });
        if (proxy.crashed()) {
          await countLeft(database.url, provider.mailed().length);
          await handOutAgain(database.url);
          await live(database.url, around);
        }
      }
      const effects = await effectsIn(database.url, [accountId]);
      return {
        effects,
        mailed: provider.mailed(),
        news: effects.filter((effect) => !before.includes(effect)).length,
        messages: proxy.count(),
        settled: proxy.settled(),
        crashed: proxy.crashed(),
      };
    } finally {
      await proxy.close();
      await database.drop();
    }
  };
  return { run, close: () => bench.close() };
}

function countPoint({ at, when }: CrashPoint, settled: readonly number[]): void {
  const isBetween = at === 1 || settled.includes(at - 1);
  reached('a crash before anything was stored', when === 'before' && at === 1);
  reached('a crash between two transactions', when === 'before' && at > 1 && isBetween);
  reached('a crash within a transaction', when === 'before' && !isBetween);
  reached('a crash after a commit, with its answer lost', when === 'after');
}

/** What a dead process leaves behind, by the rows and by what the provider has. */
async function countLeft(databaseUrl: string, mailed: number): Promise<void> {
  const client = new Client({ connectionString: databaseUrl });
  await client.connect();
  const { rows } = await client.query<Record<'events' | 'leased' | 'mails' | 'batched', number>>(
    `select (select count(*)::int from stripe_event where state = 'received') as events,
      (select count(*)::int from account_sync where leased_until > now()) as leased,
      (select count(*)::int from email where state = 'pending' and lease is null) as mails,
      (select count(*)::int from email where state = 'pending' and lease is not null) as batched`,
  );
  await client.end();
  const [left] = rows;
  if (!left) throw new Error('a select without from has one row');
  reached('a crash leaves an event that was acknowledged', left.events > 0);
  reached('a crash leaves an account under its lease', left.leased > 0);
  reached('a crash leaves mails that nobody has taken', left.mails > 0);
  reached('a crash leaves mails that were taken and have not gone out', left.batched > 0 && mailed === 0);
  reached('a crash leaves mails that are out and not written down as sent', left.batched > 0 && mailed > 0);
}

/** What comes by itself once a worker has been silent for some seconds, and the pause after a failure is over. */
async function handOutAgain(databaseUrl: string): Promise<void> {
  const client = new Client({ connectionString: databaseUrl });
  await client.connect();
  for (const table of ['account_sync', 'stripe_event', 'email'])
    await client.query(
      `update ${table} set leased_until = null, due_at = least(due_at, now()) where due_at is not null`,
    );
  await client.end();
}
