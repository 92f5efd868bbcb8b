import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { eventually, receiver, sandboxWithClient } from './api-support.ts';

const CLI = new URL('../../../node_modules/.bin/stripe', import.meta.url).pathname;

/** Runs the official Stripe CLI against a sandbox, with no configuration and no telemetry. */
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
  it.each([
    ['customer.created'],
    ['customer.updated'],
    ['price.created'],
    ['product.created'],
    ['payment_intent.succeeded'],
    ['payment_intent.payment_failed'],
    ['charge.refunded'],
    ['charge.dispute.created'],
    ['setup_intent.succeeded'],
    ['test_helpers.test_clock.ready'],
  ])('triggers %s', async (type) => {
    const { sandbox, stripe } = await sandboxWithClient();
    const { code, output } = await cli(sandbox.url, ['trigger', type]).done;
    expect(output).toContain('Trigger succeeded');
    expect(code).toBe(0);
    await eventually(type, async () => (await stripe.events.list({ type })).data.length > 0);
  });

  it('listens and forwards events signed with the secret it prints, resends included', async () => {
    const { sandbox, stripe } = await sandboxWithClient();
    const { url, received } = await receiver();
    const secret = (await cli(sandbox.url, ['listen', '--print-secret']).done).output.match(/whsec_\w+/)?.[0];
    const listening = cli(sandbox.url, ['listen', '--forward-to', url, '--all-snapshot']);
    // The npm launcher starts the real program as its child: end the whole group.
    onTestFinished(async () => {
      process.kill(-Number(listening.child.pid), 'SIGKILL');
      await listening.done;
    });
    await eventually('connected', async () => {
      const state = await (await fetch(`${sandbox.url}/_sandbox`)).json();
      return Object(state).listeners === 1;
    });
    const customer = await stripe.customers.create({ name: 'Zoë' });
    await eventually('forwarded', () => received.length === 1);
    const [event] = (await stripe.events.list()).data;
    expect((await cli(sandbox.url, ['events', 'resend', String(event?.id)]).done).code).toBe(0);
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

  it('creates and reads resources', async () => {
    const { sandbox, stripe } = await sandboxWithClient();
    const made = await cli(sandbox.url, ['customers', 'create', '--email', 'a@example.com']).done;
    expect(made.code).toBe(0);
    expect((await stripe.customers.list({ email: 'a@example.com' })).data).toHaveLength(1);
  });
});
