import type Stripe from 'stripe';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CheckoutAttempt } from '../../server/database/entities/billing.ts';
import { AuditEntry, Email } from '../../server/database/entities/journal.ts';
import { uuidv7 } from '../../server/database/uuid.ts';
import { renderEmail } from '../../server/notify/render.ts';
import { processEvents } from '../support/processing.ts';
import type { Thing } from '../support/scripted-stripe.ts';
import { addCustomer, type Bench, deliver, NOW, openBench, subscription } from '../support/stripe.ts';
import { lines, ofSubscription, openInvoice, openPayment, periodLine } from '../support/stripe-invoices.ts';

let bench: Bench;
beforeAll(async () => {
  bench = await openBench();
});
afterAll(() => bench.close());

const em = () => bench.db.orm.em.fork();
const MAILS = ['payment_failed', 'payment_action_required'];

const BUILDER = 'driftstack_api_builder_monthly';
const SCALE = 'driftstack_api_scale_annual';
type News = 'invoice.payment_failed' | 'invoice.payment_action_required';

/** An account with one subscription, already synchronised. */
async function subscribed(members: Parameters<typeof subscription>[0] = {}) {
  const { accountId, customer } = await addCustomer(bench);
  const sub = bench.stripe.put(subscription({ customer, ...members }));
  await told('customer.subscription.created', sub);
  return { accountId, customer, sub };
}

/** An open invoice for a month of a subscription. */
function renewalOf(customer: string, sub: Thing, members: Partial<Stripe.Invoice> = {}) {
  const month = periodLine(sub.id, BUILDER, { amount: 9_900 });
  return openInvoice(bench, customer, { ...ofSubscription(sub.id), lines: lines([month]), ...members });
}

async function told(type: Parameters<typeof deliver>[1], object: Thing, at = NOW) {
  const id = await deliver(bench, type, object, { created: at.getTime() / 1000 });
  expect((await processEvents(bench, [id])).size).toBe(0);
}

async function mailsOf(accountId: string) {
  const mails = await em().find(
    Email,
    { accountId, template: { $in: MAILS } },
    { orderBy: { naturalKey: 'asc' } },
  );
  return await Promise.all(
    mails.map(async ({ template, data }) => ({
      template,
      data,
      text: (await renderEmail(template, data, { links: () => true, billingUrl: null })).text,
    })),
  );
}

const auditOf = async (accountId: string) =>
  (await em().find(AuditEntry, { accountId }, { orderBy: { position: 'asc' } }))
    .filter(({ action }) => action.startsWith('invoice.'))
    .map(({ action, payload }) => ({ action, payload }));

const templatesOf = async (accountId: string) => (await mailsOf(accountId)).map(({ template }) => template);
const actionsOf = async (accountId: string) => (await auditOf(accountId)).map(({ action }) => action);

describe('a payment that failed', () => {
  it('is told once per attempt, and not at all when it has been paid since', async () => {
    const { accountId, customer, sub } = await subscribed();
    const one = renewalOf(customer, sub);
    await told('invoice.payment_failed', one);
    await told('invoice.payment_failed', one);
    bench.stripe.change(one.id, { attempt_count: 2 });
    await told('invoice.payment_failed', one);
    const paid = { ...one.status_transitions, paid_at: NOW.getTime() / 1000 };
    bench.stripe.change(one.id, { attempt_count: 3, status: 'paid', status_transitions: paid });
    await told('invoice.payment_failed', one);
    expect(await templatesOf(accountId)).toEqual(['payment_failed', 'payment_failed']);
    expect(await auditOf(accountId)).toMatchObject([
      { action: 'invoice.payment_failed', payload: { attempt: 1, amount_cents: 9_900, currency: 'usd' } },
      { action: 'invoice.payment_failed', payload: { attempt: 2 } },
      {
        action: 'invoice.payment_failure_resolved',
        payload: { status: 'paid', settled_at: '2026-05-10T12:00:00Z' },
      },
    ]);
  });

  it('of a renewal names the plan it bills, when Stripe tried and when it will again', async () => {
    const { accountId, customer, sub } = await subscribed();
    const one = renewalOf(customer, sub, { next_payment_attempt: Date.UTC(2026, 4, 13, 8) / 1000 });
    const charge = { id: 'ch_1', object: 'charge', created: Date.UTC(2026, 4, 10, 11, 59) / 1000 };
    // The rest of a charge is not read here.
    openPayment(bench, one.id, {
      status: 'requires_payment_method',
      latest_charge: charge as Stripe.Charge,
    });
    await told('invoice.payment_failed', one);
    const [mail] = await mailsOf(accountId);
    expect(mail?.text).toContain('We could not collect $99.00 for API Builder.');
    expect(mail?.text).toContain('Next attempt: 13 May 2026, 08:00 UTC');
    expect(await auditOf(accountId)).toMatchObject([
      {
        payload: { attempted_at: '2026-05-10T11:59:00Z', next_attempt_at: '2026-05-13T08:00:00Z' },
      },
    ]);
  });

  it('promises nothing of a plan, whatever it is for and however the subscription is', async () => {
    const states = ['past_due', 'active', 'unpaid', 'canceled', 'paused', 'trialing', 'incomplete_expired'];
    for (const status of states) {
      const { accountId, customer, sub } = await subscribed();
      bench.stripe.change(sub.id, { status });
      await told('invoice.payment_failed', renewalOf(customer, sub, { next_payment_attempt: null }));
      const [mail] = await mailsOf(accountId);
      expect(mail?.text).toContain('There will be no further attempt.');
      expect(mail?.text, status).not.toMatch(/stays|in place|until|keeps|begins/i);
    }
  });

  it.each(['invoice.payment_failed', 'invoice.payment_action_required'] as const)(
    'says of a subscription that is over that paying does not bring it back (%s)',
    async (news) => {
      // Docs: "canceled" and "incomplete_expired" are the states that nothing leads out of.
      const states = {
        canceled: true,
        incomplete_expired: true,
        unpaid: false,
        past_due: false,
        paused: false,
      };
      for (const [status, over] of Object.entries(states)) {
        const { accountId, customer, sub } = await subscribed();
        bench.stripe.change(sub.id, { status });
        await told(news, renewalOf(customer, sub, { next_payment_attempt: null }));
        const [mail] = await mailsOf(accountId);
        const said = mail?.text.includes('has ended, and paying does not bring it back');
        expect(said, status).toBe(over);
      }
    },
  );

  it('for a one-off invoice says nothing of the plan the account is on', async () => {
    const { accountId, customer } = await subscribed();
    const consulting = lines([{ amount: 9_900, description: 'Consulting' }]);
    await told('invoice.payment_failed', openInvoice(bench, customer, { lines: consulting }));
    const [mail] = await mailsOf(accountId);
    expect(mail?.data).toMatchObject({ plan: null, begins: false });
    expect(`${mail?.text}`).not.toMatch(/API Builder|plan/i);
  });

  it('for a subscription that is not of our catalogue says nothing of the plan the account is on', async () => {
    const { accountId, customer } = await subscribed();
    const other = bench.stripe.put(subscription({ customer, lookup_key: 'somebody_elses' }));
    bench.stripe.put({ id: 'price_somebody_elses', object: 'price', metadata: {}, product: 'prod_x' });
    const month = periodLine(other.id, 'somebody_elses', { amount: 9_900 });
    const one = openInvoice(bench, customer, { ...ofSubscription(other.id), lines: lines([month]) });
    await told('invoice.payment_failed', one);
    expect((await mailsOf(accountId))[0]?.data).toMatchObject({ plan: null });
  });

  it('of a change in mid-period names the plan that cost more, not the one that was given back', async () => {
    const { accountId, customer, sub } = await subscribed({ lookup_key: SCALE });
    // It is known what the cheaper price stands for.
    bench.stripe.put(subscription({ customer, status: 'canceled' }));
    const both = lines([
      periodLine(sub.id, BUILDER, { amount: -4_000, proration: true }),
      periodLine(sub.id, SCALE, { amount: 13_900, proration: true }),
    ]);
    await told('invoice.payment_failed', renewalOf(customer, sub, { lines: both }));
    expect((await mailsOf(accountId))[0]?.data).toMatchObject({
      plan: { tier: 'api_scale', billingPeriod: 'annual' },
    });
  });

  it('of a subscription that waits for it to begin says so', async () => {
    const { accountId, customer, sub } = await subscribed({ status: 'incomplete' });
    await told('invoice.payment_failed', renewalOf(customer, sub, { next_payment_attempt: null }));
    const [mail] = await mailsOf(accountId);
    expect(mail?.text).toContain('Your subscription begins once this payment has gone through.');
  });

  it.each([
    ['open', []],
    ['closing', []],
    ['awaiting_payment', ['payment_failed']],
    ['completed', ['payment_failed']],
  ] as const)('in a Checkout session that is %s mails %j', async (state, mails) => {
    const { accountId, customer } = await addCustomer(bench);
    const id = uuidv7(NOW);
    const session = { paramsHash: Buffer.from(id), params: {}, expiresAt: NOW };
    const times = { createdAt: NOW, updatedAt: NOW };
    await em().insert(CheckoutAttempt, { id, accountId, kind: 'subscription', state, ...session, ...times });
    const metadata = { driftstack_attempt_id: id };
    const sub = bench.stripe.put(subscription({ customer, status: 'incomplete', metadata }));
    await told('invoice.payment_failed', renewalOf(customer, sub));
    expect(await templatesOf(accountId)).toEqual(mails);
    expect(await actionsOf(accountId)).toEqual(['invoice.payment_failed']);
  });

  it('for a second subscription that we ended asks nobody for it', async () => {
    const { accountId, customer } = await subscribed({ lookup_key: SCALE });
    const second = bench.stripe.put(subscription({ customer }));
    await told('customer.subscription.created', second);
    expect(bench.stripe.all('subscription').find(({ id }) => id === second.id)?.['status']).toBe('canceled');
    await told('invoice.payment_failed', renewalOf(customer, second));
    expect(await templatesOf(accountId)).toEqual([]);
    expect(await actionsOf(accountId)).toEqual(['invoice.payment_failed']);
  });

  it('is told of an invoice that was given up, and of none that was voided', async () => {
    const { accountId, customer, sub } = await subscribed();
    const given = renewalOf(customer, sub, { status: 'uncollectible', next_payment_attempt: null });
    await told('invoice.payment_failed', given);
    const voided = { ...given.status_transitions, voided_at: NOW.getTime() / 1000 };
    const gone = renewalOf(customer, sub, { status: 'void', status_transitions: voided });
    await told('invoice.payment_failed', gone);
    await told('invoice.payment_action_required', gone);
    expect(await templatesOf(accountId)).toEqual(['payment_failed']);
    expect(await auditOf(accountId)).toMatchObject([
      { action: 'invoice.payment_failed' },
      {
        action: 'invoice.payment_failure_resolved',
        payload: { status: 'void', settled_at: '2026-05-10T12:00:00Z' },
      },
    ]);
  });
});

describe('a payment that the bank wants confirmed', () => {
  const declined = { code: 'authentication_required' } as Stripe.PaymentIntent.LastPaymentError;
  const orders: News[][] = [
    ['invoice.payment_action_required', 'invoice.payment_failed'],
    ['invoice.payment_failed', 'invoice.payment_action_required'],
    ['invoice.payment_failed'],
    ['invoice.payment_action_required'],
  ];
  const payments: [string, Partial<Stripe.PaymentIntent>][] = [
    ['waiting for it', { status: 'requires_action' }],
    ['declined for want of it', { status: 'requires_payment_method', last_payment_error: declined }],
  ];

  describe.each(payments)('%s', (_how, payment) => {
    it.each(orders)('is one mail, heard as %s %s', async (...order: News[]) => {
      for (const together of [true, false]) {
        const { accountId, customer, sub } = await subscribed();
        const one = renewalOf(customer, sub);
        openPayment(bench, one.id, payment);
        const ids: string[] = [];
        for (const type of order) {
          ids.push(await deliver(bench, type, one));
          if (!together) await processEvents(bench, ids.slice(-1));
        }
        expect((await processEvents(bench, ids)).size).toBe(0);
        const mails = await mailsOf(accountId);
        expect(mails.map(({ template }) => template)).toEqual(['payment_action_required']);
        expect(mails[0]?.text).toContain(`Confirm payment:\n${one.hosted_invoice_url}`);
        expect(await actionsOf(accountId)).toEqual(['invoice.payment_action_required']);
      }
    });
  });

  it('and was not is written down, and mailed no second time', async () => {
    const { accountId, customer, sub } = await subscribed();
    const one = renewalOf(customer, sub);
    const intent = openPayment(bench, one.id, { status: 'requires_action' });
    await told('invoice.payment_action_required', one);
    const refused = { code: 'payment_intent_authentication_failure' };
    bench.stripe.change(intent, { status: 'requires_payment_method', last_payment_error: refused });
    await told('invoice.payment_failed', one);
    expect(await templatesOf(accountId)).toEqual(['payment_action_required']);
    expect(await actionsOf(accountId)).toEqual(['invoice.payment_action_required', 'invoice.payment_failed']);
  });

  it('is told of the next attempt for what that is', async () => {
    const { accountId, customer, sub } = await subscribed();
    const one = renewalOf(customer, sub);
    const intent = openPayment(bench, one.id, { status: 'requires_action' });
    await told('invoice.payment_failed', one);
    bench.stripe.change(intent, { status: 'requires_payment_method', last_payment_error: null });
    bench.stripe.change(one.id, { attempt_count: 2 });
    await told('invoice.payment_failed', one);
    expect(await templatesOf(accountId)).toEqual(['payment_action_required', 'payment_failed']);
  });

  it('is believed of Stripe where no payment can be read', async () => {
    const { accountId, customer, sub } = await subscribed();
    await told('invoice.payment_action_required', renewalOf(customer, sub));
    expect(await templatesOf(accountId)).toEqual(['payment_action_required']);
  });
});

describe('news that time has overtaken', () => {
  it('of an earlier attempt tells of the newest, once', async () => {
    const { accountId, customer, sub } = await subscribed();
    const one = renewalOf(customer, sub, { attempt_count: 3 });
    const yesterday = new Date(NOW.getTime() - 86_400_000);
    await told('invoice.payment_failed', one, yesterday);
    await told('invoice.payment_failed', one);
    const mails = await mailsOf(accountId);
    expect(mails.map(({ data }) => data)).toMatchObject([{ attempt: 3 }]);
    expect(await auditOf(accountId)).toMatchObject([{ payload: { attempt: 3 } }]);
  });

  it('of two attempts heard in one pass is one', async () => {
    const { accountId, customer, sub } = await subscribed();
    const one = renewalOf(customer, sub, { attempt_count: 3 });
    const ids = [];
    for (let day = 5; day >= 0; day -= 5) {
      const created = NOW.getTime() / 1000 - day * 86_400;
      ids.push(await deliver(bench, 'invoice.payment_failed', one, { created }));
    }
    expect((await processEvents(bench, ids)).size).toBe(0);
    expect(await templatesOf(accountId)).toEqual(['payment_failed']);
    expect(await actionsOf(accountId)).toEqual(['invoice.payment_failed']);
  });

  it.each(['processing', 'succeeded'] as const)(
    'while another payment of it is %s says nothing',
    async (status) => {
      const { accountId, customer, sub } = await subscribed();
      const one = renewalOf(customer, sub, { attempt_count: 2 });
      openPayment(bench, one.id, { status });
      await told('invoice.payment_failed', one);
      expect(await templatesOf(accountId)).toEqual([]);
      expect(await actionsOf(accountId)).toEqual([]);
    },
  );

  it('looks at the payment that is open, not at one that was canceled', async () => {
    const { accountId, customer, sub } = await subscribed();
    const one = renewalOf(customer, sub);
    openPayment(bench, one.id, { status: 'requires_payment_method' });
    const other = openPayment(bench, one.id, { status: 'requires_action' });
    const [record] = bench.stripe.all('invoice_payment');
    expect(record).toMatchObject({ payment: { payment_intent: other } });
    bench.stripe.change(record?.id ?? '', { status: 'canceled' });
    await told('invoice.payment_failed', one);
    expect(await templatesOf(accountId)).toEqual(['payment_failed']);
  });
});
