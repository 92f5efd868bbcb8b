import { connectDatabase, type Database } from '../../server/database/connection.ts';
import type { LocalStripe } from '../../server/local-stripe/local-stripe.ts';
import { startLocalStripe } from '../../server/local-stripe/local-stripe.ts';
import { connectStripe } from '../../server/stripe/api/gateway.ts';
import type { SyncDeps } from '../../server/stripe/deps.ts';
import { isHandled } from '../../server/stripe/events.ts';
import { createEventStore } from '../../server/stripe/inbox/event-store.ts';
import { takeIn } from '../../server/stripe/inbox/intake.ts';
import { type SetUp, setUpStripe } from '../../server/stripe/set-up.ts';
import { createTestDatabase } from './database.ts';
import { processEvents } from './processing.ts';
import { quietLog, sign, WEBHOOK_SECRET } from './stripe.ts';

export type LocalBench = SyncDeps & {
  db: Database;
  localStripe: LocalStripe;
  setUp: SetUp;
  log: ReturnType<typeof quietLog>;
  /** Pays a Checkout session, as the customer would on the hosted page. */
  pay(sessionId: string, paymentMethod?: string): Promise<void>;
  /** Makes something happen at Stripe that no API call of ours can: see the local Stripe's hooks. */
  hook(path: string, body?: object): Promise<unknown>;
  /** Brings every event that Stripe has told since the last time through intake and worker, but for types held back. */
  catchUp(heldBack?: readonly string[]): Promise<void>;
  close(): Promise<void>;
};

/** A database of its own and the local Stripe, set up as the command `stripe setup` does it. */
export async function openLocalBench(onAlarm: SyncDeps['onAlarm'] = () => {}): Promise<LocalBench> {
  const database = await createTestDatabase();
  const db = await connectDatabase({ url: database.url, poolMax: 20, applicationName: 'driftstack-test' });
  const localStripe = await startLocalStripe({ port: 0, dataPath: ':memory:' });
  const gateway = connectStripe({ secretKey: 'sk_test_localstripe123', apiBase: localStripe.url });
  const setUp = await setUpStripe(gateway, { webhookUrl: null });
  const told: string[] = [];
  localStripe.world.onEvent((event) => {
    if (isHandled(event.type)) told.push(JSON.stringify(event));
  });
  const deps = { db, gateway, clock: { now: () => new Date() }, log: quietLog(), onAlarm };
  const post = async (path: string, body: object | string, headers: Record<string, string>) => {
    const text = typeof body === 'string' ? body : JSON.stringify(body);
    const response = await fetch(`${localStripe.url}${path}`, { method: 'POST', headers, body: text });
    const answer: unknown = await response.json();
    if (!response.ok) throw new Error(`${path}: ${JSON.stringify(answer)}`);
    return answer;
  };
  return {
    ...deps,
    localStripe,
    setUp,
    async pay(sessionId, paymentMethod = 'pm_card_visa') {
      await post(`/v1/payment_pages/${sessionId}/confirm`, `payment_method=${paymentMethod}`, {
        authorization: 'Bearer sk_test_localstripe123',
        'content-type': 'application/x-www-form-urlencoded',
      });
    },
    hook: (path, body = {}) => post(`/_sandbox${path}`, body, { 'content-type': 'application/json' }),
    async catchUp(heldBack = []) {
      const ids: string[] = [];
      for (const body of told.splice(0)) {
        if (heldBack.includes(String(JSON.parse(body).type))) {
          told.push(body);
          continue;
        }
        const signature = sign(body, deps.clock.now());
        const intake = {
          ...deps,
          events: createEventStore(deps.db),
          secrets: [WEBHOOK_SECRET],
          livemode: false,
        };
        await takeIn(intake, { rawBody: Buffer.from(body), signature });
        ids.push(String(JSON.parse(body).id));
      }
      const failures = await processEvents(deps, ids);
      if (failures.size > 0) throw new Error(JSON.stringify([...failures]));
    },
    async close() {
      await db.close();
      await localStripe.close();
      await database.drop();
    },
  };
}
