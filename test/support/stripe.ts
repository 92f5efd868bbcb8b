import { randomBytes } from 'node:crypto';
import Stripe from 'stripe';
import { connectDatabase, type Database } from '../../server/database/connection.ts';
import { Account } from '../../server/database/entities/account.ts';
import type { Log } from '../../server/database/log.ts';
import { uuidv7 } from '../../server/database/uuid.ts';
import { connectStripe } from '../../server/stripe/api/gateway.ts';
import type { SyncDeps } from '../../server/stripe/deps.ts';
import type { EventType } from '../../server/stripe/events.ts';
import { createEventStore } from '../../server/stripe/inbox/event-store.ts';
import { takeIn } from '../../server/stripe/inbox/intake.ts';
import { CATALOGUE } from '../../shared/catalog.ts';
import { formatId } from '../../shared/ids.ts';
import { createTestDatabase, type TestDatabase } from './database.ts';
import { type ScriptedStripe, startScriptedStripe, type Thing } from './scripted-stripe.ts';

export const WEBHOOK_SECRET = 'whsec_test_secret';
/** Later than anything the scripted Stripe creates, and a whole second. */
export const NOW = new Date('2026-05-10T12:00:00Z');

/** A log that keeps what it is told. */
export function quietLog(): Log & { errors: object[] } {
  const errors: object[] = [];
  return { errors, info: () => {}, warn: () => {}, error: (details) => void errors.push(details) };
}

export type Bench = SyncDeps & {
  db: Database;
  stripe: ScriptedStripe;
  log: ReturnType<typeof quietLog>;
  time: { now: Date };
  /** A second database handle, as another process would have. */
  another(): Promise<Database>;
  close(): Promise<void>;
};

/** A database of its own, a scripted Stripe, and everything the rooms need to work with them. */
export async function openBench(own?: TestDatabase): Promise<Bench> {
  const database = own ?? (await createTestDatabase());
  const connect = () =>
    connectDatabase({ url: database.url, poolMax: 30, applicationName: 'driftstack-test' });
  const others: Database[] = [];
  const db = await connect();
  const stripe = await startScriptedStripe();
  const time = { now: NOW };
  return {
    db,
    stripe,
    time,
    clock: { now: () => time.now },
    log: quietLog(),
    gateway: connectStripe({ secretKey: 'sk_test_scripted', apiBase: stripe.url, timeoutMs: 15_000 }),
    async another() {
      const other = await connect();
      others.push(other);
      return other;
    },
    async close() {
      for (const other of others) await other.close();
      await db.close();
      await stripe.close();
      await database.drop();
    },
  };
}

/** An account with a Stripe customer, both ways mapped. */
export async function addCustomer({ db, stripe }: Bench): Promise<{ accountId: string; customer: string }> {
  const accountId = await addAccount({ db });
  const customer = stripe.newId('cus');
  stripe.put({
    id: customer,
    object: 'customer',
    metadata: { driftstack_account_id: formatId('acc', accountId) },
  });
  await db.orm.em.fork().nativeUpdate(Account, accountId, { stripeCustomerId: customer });
  return { accountId, customer };
}

export async function addAccount({ db }: { db: Database }): Promise<string> {
  const id = uuidv7(new Date());
  await db.orm.em.fork().insert(Account, { id, email: `${id}@driftstack.test`, createdAt: NOW });
  return id;
}

const PERIOD = { current_period_start: 1_777_593_600, current_period_end: 1_780_272_000 };

/** A subscription as far as we read one. */
export function subscription(members: Partial<Thing> & { customer?: string; lookup_key?: string }): Thing {
  const { lookup_key: key = 'driftstack_api_builder_monthly', ...rest } = members;
  return {
    id: `sub_${randomBytes(6).toString('hex')}`,
    object: 'subscription',
    status: 'active',
    created: 1_777_593_600,
    currency: 'usd',
    metadata: {},
    cancel_at: null,
    cancel_at_period_end: false,
    cancellation_details: null,
    ended_at: null,
    pause_collection: null,
    trial_settings: null,
    latest_invoice: null,
    schedule: null,
    trial_end: null,
    items: {
      object: 'list',
      data: [
        {
          id: 'si_1',
          ...PERIOD,
          quantity: 1,
          price: {
            id: `price_${key}`,
            object: 'price',
            lookup_key: key,
            metadata: {},
            currency: 'usd',
            unit_amount: CATALOGUE.find(({ lookupKey }) => lookupKey === key)?.amountCents ?? null,
          },
        },
      ],
    },
    ...rest,
  };
}

/** The lines of an invoice for a subscription, each for a period of its own (unix seconds); by default May 2026. */
export function linesFor(
  subscriptionId: string,
  ...lines: readonly { amount: number; start?: number; end?: number; [member: string]: unknown }[]
): { object: 'list'; has_more: boolean; data: Thing[] } {
  const data = lines.map(
    ({ start = PERIOD.current_period_start, end = PERIOD.current_period_end, ...line }): Thing => ({
      id: `il_${randomBytes(6).toString('hex')}`,
      object: 'line_item',
      description: 'A period',
      period: { start, end },
      discount_amounts: [],
      taxes: [],
      parent: {
        type: 'subscription_item_details',
        subscription_item_details: { subscription: subscriptionId, proration: false },
      },
      ...line,
    }),
  );
  return { object: 'list', has_more: false, data };
}

/** The body of an event, as Stripe would send it. */
export function eventBody(
  type: EventType | (string & {}),
  object: Partial<Thing>,
  members: Record<string, unknown> = {},
): { id: string; body: string } {
  const id = `evt_${randomBytes(8).toString('hex')}`;
  const event = {
    id,
    object: 'event',
    type,
    created: Math.floor(NOW.getTime() / 1000),
    livemode: false,
    api_version: Stripe.API_VERSION,
    data: { object },
    ...members,
  };
  return { id, body: JSON.stringify(event) };
}

/** The header Stripe would send, by Stripe's own generator. */
export function sign(body: string, at: Date = NOW, secret = WEBHOOK_SECRET): string {
  const timestamp = Math.floor(at.getTime() / 1000);
  return Stripe.webhooks.generateTestHeaderString({ payload: body, secret, timestamp });
}

/** Delivers a signed event through the real intake and returns its id. */
export async function deliver(
  { db, clock }: Pick<Bench, 'db' | 'clock'>,
  type: EventType,
  object: Partial<Thing>,
  members: Record<string, unknown> = {},
): Promise<string> {
  const { id, body } = eventBody(type, object, members);
  const deps = { events: createEventStore(db), clock, secrets: [WEBHOOK_SECRET], livemode: false };
  await takeIn(deps, { rawBody: Buffer.from(body), signature: sign(body, clock.now()) });
  return id;
}
