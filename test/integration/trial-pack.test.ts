import type Stripe from 'stripe';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startTrialPack } from '../../server/billing/checkout.ts';
import type { BillingDeps, MintingCall } from '../../server/billing/deps.ts';
import { parseAllowlist } from '../../server/billing/redirects.ts';
import { Account } from '../../server/database/entities/account.ts';
import { CheckoutAttempt, TrialPack } from '../../server/database/entities/billing.ts';
import { AuditEntry, Email } from '../../server/database/entities/journal.ts';
import { uuidv7 } from '../../server/database/uuid.ts';
import type { EventType } from '../../server/stripe/events.ts';
import { synchronise } from '../../server/stripe/sync/synchronise.ts';
import { formatId } from '../../shared/ids.ts';
import { type LocalBench, openLocalBench } from '../support/local-stripe.ts';
import { processEvents } from '../support/processing.ts';
import type { Thing } from '../support/scripted-stripe.ts';
import { addAccount, addCustomer, type Bench, deliver, openBench } from '../support/stripe.ts';

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
const start = async (accountId: string) =>
  (await startTrialPack(deps, callOf(accountId), {})).value.checkout_session_id;
const packOf = (accountId: string) => em().findOne(TrialPack, { accountId });
const actionsOf = async (accountId: string) =>
  (await em().find(AuditEntry, { accountId }, { orderBy: { position: 'asc' } })).map(({ action }) => action);
const mailsOf = async (accountId: string) =>
  (await em().find(Email, { accountId })).map(({ template }) => template);
const attemptOf = async (accountId: string) =>
  (await em().findOneOrFail(CheckoutAttempt, { accountId })).state;
const paymentOf = async (sessionId: string): Promise<string> => {
  const session = await bench.gateway.readCheckoutSession(sessionId);
  return String(session?.payment_intent);
};

describe('the trial pack', () => {
  it('is granted once it is paid, and never sold again', async () => {
    const accountId = await addAccount(bench);
    await bench.pay(await start(accountId));
    await bench.catchUp();
    expect(await packOf(accountId)).toMatchObject({
      state: 'active',
      grantedSeconds: 59_800,
      remainingSeconds: 59_800,
    });
    expect(await actionsOf(accountId)).toContain('trial_pack.redeemed');
    expect(await mailsOf(accountId)).toEqual(['trial_pack_ready']);
    await expect(start(accountId)).rejects.toMatchObject({
      status: 409,
      code: 'trial_pack_already_redeemed',
    });

    await bench.gateway.refund((await packOf(accountId))?.paymentIntent ?? '', 'a-refund');
    await bench.catchUp();
    expect(await packOf(accountId)).toMatchObject({ state: 'revoked', remainingSeconds: 0 });
    await expect(start(accountId)).rejects.toMatchObject({ code: 'trial_pack_already_redeemed' });
  });

  it('is granted by the success page alone, when no event ever arrives', async () => {
    const accountId = await addAccount(bench);
    const sessionId = await start(accountId);
    await bench.pay(sessionId);
    for (let n = 0; n < 2; n++) await synchronise(bench, accountId, { kind: 'checkout_session', sessionId });
    expect(await packOf(accountId)).toMatchObject({ state: 'active' });
    expect(await attemptOf(accountId)).toBe('completed');
    expect(await mailsOf(accountId)).toEqual(['trial_pack_ready']);
    await bench.catchUp();
    expect(await mailsOf(accountId)).toEqual(['trial_pack_ready']);
  });

  it('lands in revoked at once when the refund is older than the grant', async () => {
    const accountId = await addAccount(bench);
    const sessionId = await start(accountId);
    await bench.pay(sessionId);
    await bench.gateway.refund(await paymentOf(sessionId), 'an-early-refund');
    await bench.catchUp();
    expect(await packOf(accountId)).toMatchObject({ state: 'revoked', remainingSeconds: 0 });
    expect(await mailsOf(accountId)).not.toContain('trial_pack_ready');
  });

  it('is suspended while its payment is disputed', async () => {
    const accountId = await addAccount(bench);
    const sessionId = await start(accountId);
    await bench.pay(sessionId);
    await bench.catchUp();
    const intent = await bench.gateway.readPaymentIntent(await paymentOf(sessionId));
    const charge = intent?.latest_charge;
    // Read with its charge expanded, which the type cannot know.
    const chargeId = (charge as Stripe.Charge).id;
    await bench.hook(`/charges/${chargeId}/dispute`);
    await bench.catchUp();
    expect(await packOf(accountId)).toMatchObject({ state: 'suspended' });
    const [dispute] = await bench.gateway.listDisputes(await paymentOf(sessionId));
    await bench.hook(`/disputes/${dispute?.id}/close`, { outcome: 'won' });
    await bench.catchUp();
    expect(await packOf(accountId)).toMatchObject({ state: 'active', remainingSeconds: 59_800 });
  });

  it('that is paid for a second time is given back at once, told once', async () => {
    const accountId = await addAccount(bench);
    await bench.pay(await start(accountId));
    await bench.catchUp();
    const { stripeCustomerId } = await em().findOneOrFail(Account, accountId);
    const account = formatId('acc', accountId);
    const names = { driftstack_account_id: account, driftstack_kind: 'trial_pack' };
    // Nothing of ours makes a second session; whatever does, this is what it would look like.
    const second = await bench.gateway.createCheckoutSession(
      {
        mode: 'payment',
        customer: String(stripeCustomerId),
        client_reference_id: account,
        line_items: [{ price: await bench.gateway.priceId('driftstack_trial_pack'), quantity: 1 }],
        success_url: 'https://your.app/ok',
        metadata: names,
        payment_intent_data: { metadata: names },
      },
      `second-${accountId}`,
    );
    await bench.pay(second.id);
    await bench.catchUp();
    const intent = await bench.gateway.readPaymentIntent(await paymentOf(second.id));
    expect(intent?.latest_charge).toMatchObject({ refunded: true, amount_refunded: 299 });
    await synchronise(bench, accountId, { kind: 'checkout_session', sessionId: second.id });
    const actions = await actionsOf(accountId);
    expect(actions.filter((action) => action === 'trial_pack.duplicate_refunded')).toHaveLength(1);
    expect((await mailsOf(accountId)).sort()).toEqual(['duplicate_purchase_refunded', 'trial_pack_ready']);
    expect(await packOf(accountId)).toMatchObject({ state: 'active', remainingSeconds: 59_800 });
  });
});

describe('a trial pack paid by a delayed method', () => {
  let scripted: Bench;
  beforeAll(async () => {
    scripted = await openBench();
  });
  afterAll(() => scripted.close());

  const startAt = async (accountId: string) =>
    (await startTrialPack({ ...deps, ...scripted }, callOf(accountId), {})).value.checkout_session_id;
  const attemptAt = async (accountId: string) =>
    (
      await scripted.db.orm.em.fork().find(CheckoutAttempt, { accountId }, { orderBy: { createdAt: 'asc' } })
    ).map(({ state }) => state);
  const packAt = (accountId: string) => scripted.db.orm.em.fork().findOne(TrialPack, { accountId });
  const tell = async (type: EventType, object: Thing) =>
    expect((await processEvents(scripted, [await deliver(scripted, type, object)])).size).toBe(0);

  /** The customer has completed Checkout, and the bank takes its time. */
  async function completed() {
    const { accountId, customer } = await addCustomer(scripted);
    const sessionId = await startAt(accountId);
    const id = scripted.stripe.newId('pi');
    const intent = scripted.stripe.put({
      id,
      object: 'payment_intent',
      status: 'processing',
      latest_charge: null,
      customer,
    });
    const unpaid = { status: 'complete', payment_status: 'unpaid', payment_intent: id, amount_total: 299 };
    const session = scripted.stripe.change(sessionId, { ...unpaid, currency: 'usd' });
    return { accountId, session, intent };
  }

  it('keeps its place until the money comes, and is then granted, even if only the next call notices', async () => {
    const { accountId, session, intent } = await completed();
    await tell('checkout.session.completed', session);
    expect(await packAt(accountId)).toBeNull();
    expect(await attemptAt(accountId)).toEqual(['awaiting_payment']);
    await expect(startAt(accountId)).rejects.toMatchObject({
      status: 409,
      code: 'trial_pack_payment_pending',
    });

    const charge = {
      id: 'ch_1',
      object: 'charge',
      created: 1_778_000_000,
      amount: 299,
      amount_refunded: 0,
      disputed: false,
      balance_transaction: { id: 'txn_1', object: 'balance_transaction', created: 1_778_300_000 },
    };
    scripted.stripe.change(intent.id, { status: 'succeeded', latest_charge: charge });
    scripted.stripe.change(session.id, { payment_status: 'paid' });
    await expect(startAt(accountId)).rejects.toMatchObject({ code: 'trial_pack_already_redeemed' });
    // The 14 days begin when the money arrived, three and a half days after the customer agreed to pay.
    expect(await packAt(accountId)).toMatchObject({
      state: 'active',
      remainingSeconds: 59_800,
      redeemedAt: new Date(1_778_300_000_000),
      expiresAt: new Date(1_778_300_000_000 + 14 * 86_400_000),
    });
    expect(await attemptAt(accountId)).toEqual(['completed']);
  });

  it('gives its place back when the money does not come', async () => {
    const { accountId, session, intent } = await completed();
    await tell('checkout.session.completed', session);
    scripted.stripe.change(intent.id, { status: 'requires_payment_method' });
    for (let n = 0; n < 2; n++) await tell('checkout.session.async_payment_failed', session);
    expect(await packAt(accountId)).toBeNull();
    const mails = await scripted.db.orm.em.fork().find(Email, { accountId });
    expect(mails.map(({ template }) => template)).toEqual(['trial_pack_payment_failed']);
    await expect(startAt(accountId)).resolves.not.toBe(session.id);
    expect(await attemptAt(accountId)).toEqual(['expired', 'open']);
  });
});
