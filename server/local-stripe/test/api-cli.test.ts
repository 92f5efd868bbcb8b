import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { eventually, localStripeWithClient, receiver } from './support/api.ts';

const CLI = new URL('../../../node_modules/.bin/stripe', import.meta.url).pathname;

/** Runs the official Stripe CLI against a local Stripe, with no configuration and no telemetry. */
function cli(
  url: string,
  args: string[],
): { child: ChildProcess; done: Promise<{ code: number; output: string }> } {
  const home = mkdtempSync(join(tmpdir(), 'stripe-cli-'));
  onTestFinished(() => rmSync(home, { recursive: true, force: true }));
  const child = spawn(CLI, [...args, '--api-base', url, '--api-key', 'sk_test_1234567890123'], {
    env: { ...process.env, XDG_CONFIG_HOME: home, STRIPE_CLI_TELEMETRY_OPTOUT: '1' },
    detached: true,
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8');
    stream.on('data', (chunk: string) => {
      output += chunk;
    });
  }
  const done = new Promise<{ code: number; output: string }>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => resolve({ code: code ?? -1, output }));
  });
  return { child, done };
}

describe('the official Stripe CLI', () => {
  it('triggers every event of ours: exit 0, and the event arrives signed', { timeout: 120_000 }, async () => {
    const failures: string[] = [];
    const waiting = Object.entries(TRIGGERS);
    const worker = async (): Promise<void> => {
      for (let next = waiting.shift(); next; next = waiting.shift())
        failures.push(...(await trigger(...next)));
    };
    await Promise.all([worker(), worker(), worker(), worker()]);
    expect(failures).toEqual([]);
  });

  it('runs a fixture, which is what `stripe fixtures` does', async () => {
    const { localStripe, stripe } = await localStripeWithClient();
    const folder = mkdtempSync(join(tmpdir(), 'stripe-fixture-'));
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
    const file = join(folder, 'fixture.json');
    const step = (name: string, path: string, params: object) => ({ name, path, method: 'post', params });
    const JO = ['$', '{jo:id}'].join(''); // filled in by the CLI
    const fixtures = [
      step('jo', '/v1/customers', { email: 'jo@example.test' }),
      step('item', '/v1/invoiceitems', { customer: JO, amount: 500, currency: 'usd' }),
      step('bill', '/v1/invoices', { customer: JO, pending_invoice_items_behavior: 'include' }),
    ];
    writeFileSync(file, JSON.stringify({ _meta: { template_version: 0 }, fixtures }));
    const { code, output } = await cli(localStripe.url, ['fixtures', file]).done;
    expect({ code, output }).toMatchObject({ code: 0 });
    expect((await stripe.invoices.list()).data).toMatchObject([{ total: 500, status: 'draft' }]);
  });

  it('listens and forwards events signed with the secret it prints, resends included', async () => {
    const { localStripe, stripe } = await localStripeWithClient();
    const { url, received } = await receiver();
    const secret = (await cli(localStripe.url, ['listen', '--print-secret']).done).output.match(
      /whsec_\w+/,
    )?.[0];
    const listening = cli(localStripe.url, ['listen', '--forward-to', url, '--all-snapshot']);
    // The npm launcher starts the real program as its child: end the whole group.
    onTestFinished(async () => {
      process.kill(-Number(listening.child.pid), 'SIGKILL');
      await listening.done;
    });
    await eventually('connected', async () => {
      const state = await (await fetch(`${localStripe.url}/_sandbox`)).json();
      return Object(state).listeners === 1;
    });
    const customer = await stripe.customers.create({ name: 'Zoë' });
    await eventually('forwarded', () => received.length === 1);
    const [event] = (await stripe.events.list()).data;
    expect((await cli(localStripe.url, ['events', 'resend', String(event?.id)]).done).code).toBe(0);
    await eventually('resent', () => received.length === 2);
    for (const { body, headers } of received) {
      const told = stripe.webhooks.constructEvent(body, String(headers['stripe-signature']), String(secret));
      expect(told).toMatchObject({
        id: event?.id,
        type: 'customer.created',
        data: { object: { id: customer.id } },
      });
    }
  });

  it('creates, changes and ends resources', { timeout: 60_000 }, async () => {
    const { localStripe, stripe } = await localStripeWithClient();
    const run = async (...args: string[]): Promise<Record<string, unknown>> => {
      const { code, output } = await cli(localStripe.url, args).done;
      expect({ args, code, output }).toMatchObject({ code: 0 });
      return JSON.parse(output.slice(output.indexOf('{')));
    };
    const card = ['--payment-method', 'pm_card_visa'];
    const customer = await run('customers', 'create', '--email', 'a@example.test', ...card);
    expect(await run('customers', 'retrieve', String(customer['id']))).toMatchObject({
      email: 'a@example.test',
    });
    const [method] = (await stripe.customers.listPaymentMethods(String(customer['id']))).data;
    await stripe.customers.update(String(customer['id']), {
      invoice_settings: { default_payment_method: method?.id ?? '' },
    });
    const price = await stripe.prices.create({
      currency: 'usd',
      unit_amount: 900,
      recurring: { interval: 'month' },
      product_data: { name: 'Plan' },
    });
    const { id } = await stripe.subscriptions.create({
      customer: String(customer['id']),
      items: [{ price: price.id }],
    });
    expect(await run('subscriptions', 'update', id, '--description', 'mine')).toMatchObject({
      description: 'mine',
    });
    expect(await run('subscriptions', 'cancel', id, '--confirm')).toMatchObject({ status: 'canceled' });
    const session = await run(
      ...['checkout', 'sessions', 'create', '--mode', 'subscription', '--success-url', 'https://app.test/'],
      ...['-d', `line_items[0][price]=${price.id}`, '-d', 'line_items[0][quantity]=1'],
    );
    expect(await run('checkout', 'sessions', 'expire', String(session['id']))).toMatchObject({
      status: 'expired',
    });
    const [intent] = (await stripe.paymentIntents.list()).data;
    const refund = await run('refunds', 'create', '--payment-intent', String(intent?.id), '--amount', '100');
    expect(refund).toMatchObject({ amount: 100, status: 'succeeded' });
    const clock = await run('test_helpers', 'test_clocks', 'create', '--frozen-time', '1800000000');
    await run('test_helpers', 'test_clocks', 'advance', String(clock['id']), '--frozen-time', '1800086400');
    await eventually('advanced', async () => {
      const { status, frozen_time } = await stripe.testHelpers.testClocks.retrieve(String(clock['id']));
      return status === 'ready' && frozen_time === 1_800_086_400;
    });
    const refused = await cli(localStripe.url, ['customers', 'retrieve', 'cus_nobody']).done;
    expect(refused.output).toContain('No such customer');
  });
});

/** Runs one trigger on a local Stripe of its own; answers what was not as it should be. */
async function trigger(name: string, type: string): Promise<string[]> {
  const { localStripe, stripe } = await localStripeWithClient();
  const { url, received } = await receiver();
  const { secret } = await stripe.webhookEndpoints.create({ url, enabled_events: ['*'] });
  const { code, output } = await cli(localStripe.url, ['trigger', name]).done;
  if (code !== 0 || !output.includes('Trigger succeeded')) return [`${name}: exit ${code}: ${output}`];
  const arrived = (): boolean =>
    received.some(({ body, headers }) => {
      const signature = String(headers['stripe-signature']);
      return stripe.webhooks.constructEvent(body, signature, String(secret)).type === type;
    });
  return eventually(`${type} arrives`, arrived).then(
    () => [],
    (error: unknown) => [`${name}: ${String(error)}`],
  );
}

/** What `stripe trigger` is asked for, and the event that must arrive. */
const TRIGGERS: Readonly<Record<string, string>> = {
  'customer.created': 'customer.created',
  'customer.updated': 'customer.updated',
  'price.created': 'price.created',
  'product.created': 'product.created',
  'checkout.session.completed': 'checkout.session.completed',
  'checkout.session.expired': 'checkout.session.expired',
  'checkout.session.async_payment_succeeded': 'checkout.session.async_payment_succeeded',
  'invoice.payment_failed': 'invoice.payment_failed',
  'invoice.paid': 'invoice.paid',
  'invoice.payment_succeeded': 'invoice.payment_succeeded',
  'customer.subscription.created': 'customer.subscription.created',
  'customer.subscription.updated': 'customer.subscription.updated',
  'customer.subscription.deleted': 'customer.subscription.deleted',
  'customer.subscription.trial_will_end': 'customer.subscription.trial_will_end',
  'customer.subscription.paused': 'customer.subscription.paused',
  'payment_intent.succeeded': 'payment_intent.succeeded',
  'payment_intent.payment_failed': 'payment_intent.payment_failed',
  'charge.refunded': 'charge.refunded',
  'billing_portal.session.created': 'billing_portal.session.created',
  'billing_portal.configuration.created': 'billing_portal.configuration.created',
  'subscription.payment_failed': 'invoice.payment_failed',
  'subscription.payment_succeeded': 'invoice.payment_succeeded',
  'test_helpers.test_clock.ready': 'test_helpers.test_clock.ready',
  'charge.dispute.closed': 'charge.dispute.closed',
  'charge.dispute.created': 'charge.dispute.created',
  'charge.dispute.updated': 'charge.dispute.updated',
  'charge.failed': 'charge.failed',
  'charge.succeeded': 'charge.succeeded',
  'checkout.session.async_payment_failed': 'checkout.session.async_payment_failed',
  'invoice.created': 'invoice.created',
  'invoice.deleted': 'invoice.deleted',
  'invoice.finalized': 'invoice.finalized',
  'invoice.marked_uncollectible': 'invoice.marked_uncollectible',
  'invoice.payment_action_required': 'invoice.payment_action_required',
  'invoice.sent': 'invoice.sent',
  'invoice.updated': 'invoice.updated',
  'invoice.voided': 'invoice.voided',
  'invoiceitem.created': 'invoiceitem.created',
  'invoiceitem.deleted': 'invoiceitem.deleted',
  'customer.deleted': 'customer.deleted',
  'payment_intent.canceled': 'payment_intent.canceled',
  'payment_intent.created': 'payment_intent.created',
  'payment_intent.processing': 'payment_intent.processing',
  'payment_intent.requires_action': 'payment_intent.requires_action',
  'payment_method.attached': 'payment_method.attached',
  'payment_method.detached': 'payment_method.detached',
  'payment_method.updated': 'payment_method.updated',
  'price.updated': 'price.updated',
  'product.updated': 'product.updated',
  'product.deleted': 'product.deleted',
  'setup_intent.created': 'setup_intent.created',
  'setup_intent.succeeded': 'setup_intent.succeeded',
  'setup_intent.canceled': 'setup_intent.canceled',
  'setup_intent.setup_failed': 'setup_intent.setup_failed',
  'setup_intent.requires_action': 'setup_intent.requires_action',
  'test_helpers.test_clock.created': 'test_helpers.test_clock.created',
  'test_helpers.test_clock.deleted': 'test_helpers.test_clock.deleted',
  'test_helpers.test_clock.advancing': 'test_helpers.test_clock.advancing',
};
