import type Stripe from 'stripe';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startCheckout, startTrialPack } from '../../server/billing/checkout.ts';
import type { BillingDeps, MintingCall } from '../../server/billing/deps.ts';
import { parseAllowlist } from '../../server/billing/redirects.ts';
import { connectDatabase } from '../../server/database/connection.ts';
import { Account, FormerStripeCustomer } from '../../server/database/entities/account.ts';
import { CheckoutAttempt, TrialPack } from '../../server/database/entities/billing.ts';
import { AuditEntry, Email, StripeEvent } from '../../server/database/entities/journal.ts';
import { migrate } from '../../server/database/migrate.ts';
import { uuidv7 } from '../../server/database/uuid.ts';
import { readTimeline } from '../../server/operator/timeline.ts';
import type { EventType } from '../../server/stripe/events.ts';
import { reconcile } from '../../server/stripe/repair/reconcile.ts';
import { accountsAfter } from '../../server/stripe/repair/sweep.ts';
import { createTestDatabase } from '../support/database.ts';
import { type LocalBench, openLocalBench } from '../support/local-stripe.ts';
import { processEvents } from '../support/processing.ts';
import type { Thing } from '../support/scripted-stripe.ts';
import { addAccount, addCustomer, deliver, openBench } from '../support/stripe.ts';

let bench: LocalBench;
let deps: BillingDeps;
beforeAll(async () => {
  bench = await openLocalBench();
  const defaults = {
    checkoutSuccessUrl: 'https://your.app/ok',
    checkoutCancelUrl: 'https://your.app/back',
    portalReturnUrl: null,
  };
  deps = { ...bench, redirects: parseAllowlist(['https://your.app']), defaults };
});
afterAll(() => bench.close());

const em = () => bench.db.orm.em.fork();
const callOf = (accountId: string): MintingCall => ({
  accountId,
  keyId: uuidv7(new Date()),
  requestId: 'req_1',
  idempotencyKey: null,
});
const startPack = async (accountId: string) =>
  (await startTrialPack(deps, callOf(accountId), {})).value.checkout_session_id;
const startPlan = async (accountId: string) =>
  (await startCheckout(deps, callOf(accountId), { tier: 'api_builder', billing_period: 'monthly' })).value
    .checkout_session_id;
const packOf = (accountId: string) => em().findOne(TrialPack, { accountId });
const customerOf = async (accountId: string) =>
  String((await em().findOneOrFail(Account, accountId)).stripeCustomerId);
const actionsOf = async (accountId: string) =>
  (await em().find(AuditEntry, { accountId }, { orderBy: { position: 'asc' } })).map(({ action }) => action);
const mailsOf = async (accountId: string) =>
  (await em().find(Email, { accountId })).map(({ template }) => template);
const attemptOf = async (sessionId: string) =>
  (await em().findOneOrFail(CheckoutAttempt, { stripeSessionId: sessionId })).state;
const paymentOf = async (sessionId: string): Promise<string> =>
  String((await bench.gateway.readCheckoutSession(sessionId))?.payment_intent);
const deleteAtStripe = (customer: string) => bench.gateway.sdk.customers.del(customer);
const chargeOf = async (paymentIntent: string) =>
  // Read with its charge expanded, which the type cannot know.
  (await bench.gateway.readPaymentIntent(paymentIntent))?.latest_charge as Stripe.Charge;

/** An account whose trial pack is paid and granted, and whose customer Stripe has deleted since. */
async function packedAndDeleted() {
  const accountId = await addAccount(bench);
  const sessionId = await startPack(accountId);
  await bench.pay(sessionId);
  await bench.catchUp();
  const customer = await customerOf(accountId);
  await deleteAtStripe(customer);
  await bench.catchUp();
  return { accountId, customer, sessionId, paymentIntent: await paymentOf(sessionId) };
}

describe('a customer whom Stripe has deleted', () => {
  it('stays known, and what is given back of its trial pack reaches the account', async () => {
    const { accountId, customer, paymentIntent } = await packedAndDeleted();
    expect(await em().findOneOrFail(Account, accountId)).toMatchObject({ stripeCustomerId: null });
    expect(await em().find(FormerStripeCustomer, { accountId })).toMatchObject([
      { stripeCustomerId: customer },
    ]);
    expect(await packOf(accountId)).toMatchObject({ state: 'active' });
    await bench.gateway.refund(paymentIntent, `refund:${paymentIntent}`);
    await bench.catchUp();
    expect(await packOf(accountId)).toMatchObject({ state: 'revoked', remainingSeconds: 0 });
    expect(await mailsOf(accountId)).toContain('trial_pack_refunded');
  });

  it('whose bank disputes the payment puts the credit on hold, and its end as well', async () => {
    const { accountId, paymentIntent } = await packedAndDeleted();
    await bench.hook(`/charges/${(await chargeOf(paymentIntent)).id}/dispute`);
    await bench.catchUp();
    expect(await packOf(accountId)).toMatchObject({ state: 'suspended' });
    const [dispute] = await bench.gateway.listDisputes(paymentIntent);
    await bench.hook(`/disputes/${dispute?.id}/close`, { outcome: 'lost' });
    await bench.catchUp();
    expect(await packOf(accountId)).toMatchObject({ state: 'revoked', remainingSeconds: 0 });
  });

  it('before its payment was heard of has its pack all the same, and no second one is sold', async () => {
    const accountId = await addAccount(bench);
    const sessionId = await startPack(accountId);
    await bench.pay(sessionId);
    await deleteAtStripe(await customerOf(accountId));
    await bench.catchUp(['checkout.session.completed']);
    expect(await em().findOneOrFail(Account, accountId)).toMatchObject({ stripeCustomerId: null });
    expect(await attemptOf(sessionId)).toBe('expired');
    await bench.catchUp();
    expect(await packOf(accountId)).toMatchObject({ state: 'active', remainingSeconds: 59_800 });
    expect(await attemptOf(sessionId)).toBe('completed');
    await expect(startPack(accountId)).rejects.toMatchObject({ code: 'trial_pack_already_redeemed' });
  });

  it('whose payment was heard of last of all has its receipt', async () => {
    const accountId = await addAccount(bench);
    await bench.pay(await startPlan(accountId));
    await bench.catchUp(['invoice.paid']);
    await deleteAtStripe(await customerOf(accountId));
    await bench.catchUp(['invoice.paid']);
    expect(await actionsOf(accountId)).toContain('stripe_customer.deleted');
    expect(await mailsOf(accountId)).not.toContain('payment_receipt');
    await bench.catchUp();
    expect(await actionsOf(accountId)).toContain('invoice.paid');
    expect(await mailsOf(accountId)).toContain('payment_receipt');
  });

  it('of whose purchase no event ever arrived is asked about by the comparison, also beside a new one', async () => {
    const accountId = await addAccount(bench);
    const sessionId = await startPack(accountId);
    await bench.pay(sessionId);
    const former = await customerOf(accountId);
    await deleteAtStripe(former);
    await bench.catchUp(['checkout.session.completed']);
    await startPlan(accountId);
    expect(await customerOf(accountId)).not.toBe(former);
    await reconcile(bench, accountId, { by: 'reconciler' });
    expect(await packOf(accountId)).toMatchObject({ state: 'active', stripeSessionId: sessionId });
    await bench.gateway.refund(await paymentOf(sessionId), `refund:${sessionId}`);
    // The events stay away: the comparison finds the refund as well.
    await reconcile(bench, accountId, { by: 'reconciler' });
    expect(await packOf(accountId)).toMatchObject({ state: 'revoked' });
    await bench.catchUp();
  });

  it('and whose end is told twice, or whose events name it after a new one was made, changes nothing', async () => {
    const { accountId, customer } = await packedAndDeleted();
    await startPlan(accountId);
    const next = await customerOf(accountId);
    const before = await actionsOf(accountId);
    const now = bench.clock.now();
    for (const id of [`evt_again_${customer}`, `evt_more_${customer}`]) {
      const object = { id: customer, object: 'customer', deleted: true };
      await em().insert(StripeEvent, {
        ...{ id, type: 'customer.deleted', objectId: customer, customerId: customer, livemode: false },
        ...{ createdAt: now, receivedAt: now, state: 'received', attempts: 0 },
        raw: Buffer.from(
          JSON.stringify({
            ...{ id, object: 'event', type: 'customer.deleted', livemode: false, data: { object } },
            created: Math.floor(now.getTime() / 1000),
          }),
        ),
      });
      expect((await processEvents(bench, [id])).size).toBe(0);
      expect(await em().findOneOrFail(StripeEvent, id)).toMatchObject({ state: 'done', accountId });
    }
    expect(await customerOf(accountId)).toBe(next);
    expect(await actionsOf(accountId)).toEqual(before);
  });

  it('is looked at every night while its pack can change, or a payment for it can come', async () => {
    const { accountId } = await packedAndDeleted();
    const nothing = await addAccount(bench);
    const soon = { after: null, now: new Date() };
    const later = { after: null, now: new Date(Date.now() + 60 * 86_400_000) };
    expect(await accountsAfter(bench.db, soon)).toContain(accountId);
    expect(await accountsAfter(bench.db, soon)).not.toContain(nothing);
    expect(await accountsAfter(bench.db, later)).toContain(accountId);
    await em().nativeUpdate(TrialPack, { accountId }, { state: 'expired' });
    expect(await accountsAfter(bench.db, later)).not.toContain(accountId);
    expect(await accountsAfter(bench.db, soon)).toContain(accountId);
  });

  it('is named where an operator asks why the account stands where it does', async () => {
    const { accountId, customer } = await packedAndDeleted();
    const { account, formerCustomers } = await readTimeline(bench.db, accountId, new Date());
    expect(account.stripeCustomerId).toBeNull();
    expect(formerCustomers.map(({ id }) => id)).toEqual([customer]);
  });
});

it('a slow bank that pays for a customer who is gone since keeps the place of the pack until it has', async () => {
  const scripted = await openBench();
  try {
    const { accountId, customer } = await addCustomer(scripted);
    const own = { ...deps, ...scripted };
    const minted = await startTrialPack(own, callOf(accountId), {});
    const { id } = scripted.stripe.put({
      id: scripted.stripe.newId('pi'),
      ...{ object: 'payment_intent', status: 'processing', latest_charge: null, customer },
    });
    const session = scripted.stripe.change(minted.value.checkout_session_id, {
      ...{ status: 'complete', payment_status: 'unpaid', payment_intent: id },
      ...{ amount_total: 299, currency: 'usd' },
    });
    const tell = async (type: EventType, object: Thing) =>
      expect((await processEvents(scripted, [await deliver(scripted, type, object)])).size).toBe(0);
    const stateOf = async () => {
      const [attempt] = await scripted.db.orm.em.fork().find(CheckoutAttempt, { accountId });
      return attempt?.state;
    };
    await tell('checkout.session.completed', session);
    await tell('customer.deleted', scripted.stripe.change(customer, { deleted: true }));
    expect(await stateOf()).toBe('awaiting_payment');
    await expect(startTrialPack(own, callOf(accountId), {})).rejects.toMatchObject({
      code: 'trial_pack_payment_pending',
    });
    const charge = { object: 'charge', created: 1_778_000_000, amount: 299, amount_refunded: 0 };
    scripted.stripe.change(id, { status: 'succeeded', latest_charge: { id: 'ch_late', ...charge } });
    await tell(
      'checkout.session.async_payment_succeeded',
      scripted.stripe.change(session.id, { payment_status: 'paid' }),
    );
    expect(await stateOf()).toBe('completed');
    expect(await scripted.db.orm.em.fork().findOneOrFail(TrialPack, { accountId })).toMatchObject({
      state: 'active',
      remainingSeconds: 59_800,
    });
  } finally {
    await scripted.close();
  }
});

it('customers that were forgotten before they were remembered are known again after the migration', async () => {
  const database = await createTestDatabase('template0');
  const db = await connectDatabase({
    url: database.url,
    poolMax: 2,
    applicationName: 'former-migration-test',
  });
  try {
    await db.orm.migrator.up({ to: '0005-filters-and-figures' });
    const at = new Date('2026-05-01T12:00:00Z');
    const accountId = uuidv7(at);
    await db.pool.query('insert into account (id, email, created_at) values ($1, $2, $3)', [
      ...[accountId, 'early@example.com', at],
    ]);
    await db.pool.query(
      `insert into audit_entry (id, account_id, position, dedupe_key, actor_type, action, target_resource_id, payload, occurred_at, hash)
       values (gen_random_uuid(), $1, 1, 'customer_deleted:cus_early', 'system', 'stripe_customer.deleted', 'cus_early', '{}', $2, '\\x00')`,
      [accountId, at],
    );
    const event = (id: string, customer: string | null, error: string) =>
      db.pool.query(
        `insert into stripe_event (id, type, customer_id, livemode, created_at, raw, state, error, received_at, processed_at)
         values ($1, 'charge.refunded', $2, false, $4, '{}', 'ignored', $3, $4, $4)`,
        [id, customer, error, at],
      );
    const nobody = (customer: string) => `No account of ours has the Stripe customer ${customer}`;
    await event('evt_refund', 'cus_early', nobody('cus_early'));
    // A dispute carries no customer: who it is of stands in the reason alone.
    await event('evt_dispute', null, nobody('cus_early'));
    await event('evt_other', 'cus_other', nobody('cus_other'));
    await event('evt_type', 'cus_early', 'a type we do not handle');
    await migrate(db);
    const former = await db.pool.query(
      'select stripe_customer_id, account_id, since = $1 as since_its_end from former_stripe_customer',
      [at],
    );
    expect(former.rows).toEqual([
      { stripe_customer_id: 'cus_early', account_id: accountId, since_its_end: true },
    ]);
    const events = await db.pool.query('select id, state from stripe_event order by id');
    expect(Object.fromEntries(events.rows.map(({ id, state }) => [id, state]))).toEqual({
      evt_refund: 'received',
      evt_dispute: 'received',
      evt_other: 'ignored',
      evt_type: 'ignored',
    });
  } finally {
    await db.close();
    await database.drop();
  }
});
