import { connectDatabase, type Database } from '../../server/database/connection.ts';
import { Account } from '../../server/database/entities/account.ts';
import { uuidv7 } from '../../server/database/uuid.ts';
import { type LocalStripe, startLocalStripe } from '../../server/local-stripe/local-stripe.ts';
import { connectStripe, type StripeGateway } from '../../server/stripe/api/gateway.ts';
import { isHandled } from '../../server/stripe/events.ts';
import { catchUp } from '../../server/stripe/repair/catch-up.ts';
import { type SetUp, setUpStripe } from '../../server/stripe/set-up.ts';
import { createTestDatabase } from '../support/database.ts';

/** Cases begin here; a whole second, on a day that every month has. */
export const STARTS_AT = Date.parse('2026-03-05T09:00:00Z');

/**
 * A local Stripe on a clock of its own, a database, and two processes' worth of connections to both. Cases run
 * in it one after another, each with its own account; several lanes run side by side.
 */
export type Lane = {
  readonly localStripe: LocalStripe;
  readonly setUp: SetUp;
  readonly processes: readonly { readonly db: Database; readonly gateway: StripeGateway }[];
  readonly time: { ms: number };
  /** Empties Stripe but for its catalogue, turns the clock back, and opens a new account. */
  begin(told: (event: { id: string; type: string; body: string }) => void): Promise<string>;
  close(): Promise<void>;
};

export const QUIET = { info: () => {}, warn: () => {}, error: () => {} };

const KEPT = ['product', 'price', 'billing_portal.configuration'] as const;

export async function openLane(): Promise<Lane> {
  const database = await createTestDatabase();
  const time = { ms: STARTS_AT };
  const localStripe = await startLocalStripe({ port: 0, dataPath: ':memory:', clock: () => time.ms });
  const { world } = localStripe;
  const connect = async () => ({
    db: await connectDatabase({
      url: database.url,
      poolMax: 12,
      applicationName: 'driftstack-convergence',
      statementTimeoutMs: 30_000,
      connectionTimeoutMs: 30_000,
    }),
    gateway: connectStripe({ secretKey: 'sk_test_convergence123', apiBase: localStripe.url }),
  });
  const processes = [await connect(), await connect()];
  const setUp = await setUpStripe(
    connectStripe({ secretKey: 'sk_test_setup12345678', apiBase: localStripe.url }),
    {
      webhookUrl: null,
    },
  );
  const kept = KEPT.flatMap((kind) =>
    [...world.newestFirst(kind)].reverse().map((object) => ({ kind, object })),
  );
  let tell: Parameters<Lane['begin']>[0] = () => {};
  world.onEvent((event) => {
    if (isHandled(event.type)) tell({ id: event.id, type: event.type, body: JSON.stringify(event) });
  });
  return {
    localStripe,
    setUp,
    processes,
    time,
    async begin(told) {
      tell = () => {};
      time.ms = STARTS_AT;
      world.reset();
      world.atomically(() => {
        world.hidden.put('base_url', 'self', { url: localStripe.url });
        for (const { kind, object } of kept) world.store.put(kind, object);
      });
      tell = told;
      const id = uuidv7(new Date());
      const [first] = processes;
      if (!first) throw new Error('a lane has two processes');
      const account = { id, email: `${id}@driftstack.test`, createdAt: new Date(STARTS_AT) };
      await first.db.orm.em.fork().insert(Account, account);
      // The poll for missed events begins anew as well.
      await first.db.pool.query('delete from recurring_task');
      await catchUp({ ...first, clock: { now: () => new Date(STARTS_AT) }, log: QUIET, livemode: false });
      return id;
    },
    async close() {
      for (const { db } of processes) await db.close();
      await localStripe.close();
      await database.drop();
    },
  };
}
