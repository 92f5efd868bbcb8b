import { connectDatabase, type Database } from '../../../server/database/connection.ts';
import { claimDue } from '../../../server/database/lease.ts';
import { claimBatch } from '../../../server/notify/due-mails.ts';
import type { EmailSender } from '../../../server/notify/resend.ts';
import { sendBatch } from '../../../server/notify/send.ts';
import type { StripeGateway } from '../../../server/stripe/api/gateway.ts';
import { createEventStore } from '../../../server/stripe/inbox/event-store.ts';
import { takeIn } from '../../../server/stripe/inbox/intake.ts';
import { processAccount, processOwnerless } from '../../../server/stripe/sync/worker.ts';
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
 * takes what is due one batch at a time, by the workers' own statements. Everything it keeps in memory is
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
    await workAll(db, around);
  } finally {
    await db.close();
  }
}

async function takeAll(db: Database, { now, undelivered }: Surroundings): Promise<void> {
  const deps = {
    events: createEventStore(db),
    clock: { now: () => now },
    secrets: [WEBHOOK_SECRET],
    livemode: false,
  };
  for (let body = undelivered[0]; body !== undefined; body = undelivered[0]) {
    await takeIn(deps, { rawBody: Buffer.from(body), signature: sign(body, now) });
    undelivered.shift();
  }
}

async function workAll(db: Database, { gateway, resend, now }: Surroundings): Promise<void> {
  const log = quietLog();
  const clock = { now: () => now };
  const deps = { db, gateway, clock, log };
  const { signal } = new AbortController();
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
    const accounts = await claimDue(db, 'account_sync', 20);
    for (const key of accounts.keys) await processAccount(deps, { key, lease: accounts.lease }, signal);
    const ownerless = await claimDue(db, 'stripe_event', 20);
    for (const key of ownerless.keys) await processOwnerless(deps, { key, lease: ownerless.lease });
    if (accounts.keys.length + ownerless.keys.length > 0) continue;
    const batch = await claimBatch(db);
    if (batch === null) return;
    await sendBatch(sending, batch);
  }
}
