import { afterAll, beforeAll, expect, it } from 'vitest';
import { Account } from '../../server/database/entities/account.ts';
import { AuditEntry, Email } from '../../server/database/entities/journal.ts';
import { collectInvoice } from '../../server/local-stripe/billing/collect.ts';
import { paymentIntentOf } from '../../server/local-stripe/billing/invoice-payments.ts';
import { completeAuthentication } from '../../server/local-stripe/payments.ts';
import { type LocalBench, openLocalBench } from '../support/local-stripe.ts';
import { addAccount } from '../support/stripe.ts';

// A renewal that the bank wants confirmed, on the local Stripe, which tells of each attempt twice: as failed and as
// wanting its customer. Attempts follow on the third, eighth and fifteenth day.

let bench: LocalBench;
beforeAll(async () => {
  bench = await openLocalBench();
});
afterAll(() => bench.close());

const em = () => bench.db.orm.em.fork();
const MAILS = ['payment_failed', 'payment_action_required', 'subscription_ended'];

/** A subscriber whose card asks for 3-D Secure from the second payment on. */
async function subscriber() {
  const { world } = bench.localStripe;
  const { sdk } = bench.gateway;
  const accountId = await addAccount(bench);
  const card = 'pm_card_visa';
  const { id: customer } = await sdk.customers.create({
    payment_method: card,
    invoice_settings: { default_payment_method: card },
  });
  await em().nativeUpdate(Account, accountId, { stripeCustomerId: customer });
  const price = await bench.gateway.priceId('driftstack_api_builder_monthly');
  const sub = await sdk.subscriptions.create({ customer, items: [{ price }] });
  await bench.catchUp();
  const asking = await sdk.paymentMethods.attach('pm_card_authenticationRequired', { customer });
  await sdk.customers.update(customer, { invoice_settings: { default_payment_method: asking.id } });
  const renewsAt = sub.items.data[0]?.current_period_end ?? 0;
  return {
    accountId,
    /** Lets time run to so many days after the renewal. */
    travel: (days: number) => world.runUntil(renewsAt + days * 86_400, null),
    invoice: () => world.ofCustomer('invoice', customer).at(-1),
    mails: async () =>
      (
        await em().find(Email, { accountId, template: { $in: MAILS } }, { orderBy: { createdAt: 'asc' } })
      ).map(({ template }) => template),
    actions: async () =>
      (await em().find(AuditEntry, { accountId }, { orderBy: { position: 'asc' } }))
        .map(({ action }) => action)
        .filter((action) => /payment/.test(action)),
  };
}

it.each([
  ['both at once', null],
  ['the failure later', 'invoice.payment_failed'],
  ['the wish later', 'invoice.payment_action_required'],
])('is one mail per attempt, hearing %s, and none once it is confirmed', async (_how, later) => {
  const { accountId, travel, invoice, mails, actions } = await subscriber();
  travel(1);
  await bench.catchUp(later === null ? [] : [later]);
  expect(await mails()).toEqual(['payment_action_required']);
  await bench.catchUp();
  expect(await mails()).toEqual(['payment_action_required']);
  travel(4);
  await bench.catchUp();
  expect(await mails()).toEqual(['payment_action_required', 'payment_action_required']);
  expect(await actions()).toEqual(['invoice.payment_action_required', 'invoice.payment_action_required']);
  const [mail] = await em().find(Email, { accountId, template: 'payment_action_required' });
  const { id = '', hosted_invoice_url: page } = invoice() ?? {};
  expect(mail?.data).toMatchObject({ payUrl: page, plan: { tier: 'api_builder' }, amountCents: 9_900 });

  // The customer opens the link, pays there, and passes the bank's question.
  const answer = await fetch(String(page));
  expect(await answer.text()).toContain('Pay $99.00');
  const { world } = bench.localStripe;
  collectInvoice(world, id, { paymentMethod: null, offSession: false, automatic: false });
  completeAuthentication(world, paymentIntentOf(world, id)?.id ?? '', 'succeed');
  await bench.catchUp();
  expect(invoice()?.status).toBe('paid');
  expect(await mails()).toEqual(['payment_action_required', 'payment_action_required']);
});
