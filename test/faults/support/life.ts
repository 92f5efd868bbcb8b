import type { PgBoss } from 'pg-boss';
import { connectDatabase, type Database } from '../../../server/database/connection.ts';
import { passiveBoss } from '../../../server/database/jobs.ts';
import { claimBatch } from '../../../server/notify/due-mails.ts';
import type { EmailSender } from '../../../server/notify/resend.ts';
import { sendBatch } from '../../../server/notify/send.ts';
import type { StripeGateway } from '../../../server/stripe/gateway.ts';
import { takeIn } from '../../../server/stripe/intake.ts';
import { stripeEventHandler } from '../../../server/stripe/worker.ts';
import { quietLog, sign, WEBHOOK_SECRET } from '../../support/stripe.ts';

/** The world around our process, which outlives it. */
export type Surroundings = {
  readonly gateway: StripeGateway;
  readonly resend: EmailSender;
  readonly now: Date;
  /** Bodies of events that nobody has acknowledged yet; acknowledged ones are not sent again. */
  readonly undelivered: string[];
};

/**
 * What a process of ours does from its start until nothing is left to do: it takes in what Stripe delivers, then
 * takes jobs from the queues one batch at a time, by the queue's own statements. Everything it keeps in memory is
 * its own. Throws when the database is gone.
 */
export async function live(databaseUrl: string, around: Surroundings): Promise<void> {
  const db = await connectDatabase({
    url: databaseUrl,
    poolMax: 4,
    applicationName: 'driftstack-life',
    connectionTimeoutMs: 20_000,
  });
  try {
    await takeAll(db, around);
    const boss = await passiveBoss({
      executeSql: async (text, values) => await db.pool.query(text, values),
    });
    await workAll(db, boss, around);
  } finally {
    await db.close();
  }
}

async function takeAll(db: Database, { now, undelivered }: Surroundings): Promise<void> {
  const deps = { db, clock: { now: () => now }, secrets: [WEBHOOK_SECRET], livemode: false };
  for (let body = undelivered[0]; body !== undefined; body = undelivered[0]) {
    await takeIn(deps, { rawBody: Buffer.from(body), signature: sign(body, now) });
    undelivered.shift();
  }
}

async function workAll(db: Database, boss: PgBoss, { gateway, resend, now }: Surroundings): Promise<void> {
  const log = quietLog();
  const clock = { now: () => now };
  const handle = stripeEventHandler({ db, gateway, clock, log });
  const sending = {
    db,
    resend,
    clock,
    log,
    from: 'Billing <billing@driftstack.test>',
    context: { links: () => true, billingUrl: null },
    pace: { turn: async () => {}, hold: async () => {} },
  };
  for (;;) {
    const events = await boss.fetch<{ eventId: string }>('stripe-event', { batchSize: 20 });
    if (events.length > 0) {
      const outcomes = await handle(
        events.map(({ id, data, signal }) => ({ id, data, signal, attempt: 1, isLastAttempt: false })),
      );
      for (const outcome of outcomes) {
        if (outcome.status !== 'completed') throw new Error(outcome.reason);
        await boss.complete('stripe-event', outcome.id);
      }
      continue;
    }
    const batch = await claimBatch(db);
    if (batch === null) return;
    await sendBatch(sending, batch);
  }
}
