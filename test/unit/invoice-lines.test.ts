import { afterAll, beforeAll, expect, it } from 'vitest';
import { connectStripe, type StripeGateway } from '../../server/stripe/api/gateway.ts';
import { type ScriptedStripe, startScriptedStripe } from '../support/scripted-stripe.ts';

let stripe: ScriptedStripe;
let gateway: StripeGateway;
beforeAll(async () => {
  stripe = await startScriptedStripe();
  gateway = connectStripe({ secretKey: 'sk_test_scripted', apiBase: stripe.url, timeoutMs: 2_000 });
});
afterAll(() => stripe.close());

async function invoiceOf(count: number) {
  const data = Array.from({ length: count }, (_, at) => ({
    id: `il_${at}`,
    object: 'line_item',
    amount: at,
  }));
  const { id } = stripe.put({ id: stripe.newId('in'), object: 'invoice', lines: { data } });
  const invoice = await gateway.readInvoice(id);
  if (!invoice) throw new Error('the invoice is there');
  return invoice;
}

it.each([
  [0, 0],
  [10, 0],
  [11, 1],
  [110, 1],
  [111, 2],
  [1_000, 10],
])('reads all of %i lines, %i more pages', async (count, pages) => {
  const invoice = await invoiceOf(count);
  expect(invoice.lines.data).toHaveLength(Math.min(10, count));
  const before = stripe.calls.length;
  const lines = await gateway.readInvoiceLines(invoice);
  expect(lines?.map(({ id }) => id)).toEqual(Array.from({ length: count }, (_, at) => `il_${at}`));
  expect(stripe.calls.length - before).toBe(pages);
});

it('reads no end of lines, and never takes half of them for all', async () => {
  const invoice = await invoiceOf(5_000);
  const before = stripe.calls.length;
  expect(await gateway.readInvoiceLines(invoice)).toBeNull();
  expect(stripe.calls.length - before).toBeLessThanOrEqual(10);
});

it('takes no part of them for all where Stripe no longer knows the rest', async () => {
  const invoice = await invoiceOf(30);
  stripe.forget(invoice.id);
  expect(await gateway.readInvoiceLines(invoice)).toBeNull();
});
