import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { registerBilling } from '../billing/lifecycle.ts';
import { openWorld } from '../open-world.ts';
import { registerPaymentMethods } from '../payment-methods.ts';
import { registerPayments } from '../payments.ts';
import { changeTo, period, price, seconds, subscribe } from './support/billing.ts';

it('after a restart a subscription renews, and credits what was billed before', () => {
  const folder = mkdtempSync(join(tmpdir(), 'billing-restart-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const clock = { ms: Date.parse('2026-06-01T00:00:00Z') };
  const open = () => {
    const world = openWorld({ path: join(folder, 'stripe.db'), clock: () => clock.ms });
    registerPayments(world);
    registerPaymentMethods(world);
    registerBilling(world);
    return world;
  };
  const before = open();
  const { id } = subscribe(before, price(before, 3_000));
  before.close();

  clock.ms = Date.parse('2026-06-16T00:00:00Z');
  const after = open();
  onTestFinished(() => after.close());
  const { latest_invoice: upgrade } = changeTo(after, id, price(after, 9_000), 'always_invoice');
  expect(after.get('invoice', String(upgrade)).lines.data.map((line) => line.amount)).toEqual([
    -1_500, 4_500,
  ]);
  after.runUntil(seconds('2026-07-01T00:00:00Z'), null);
  expect(period(after.get('subscription', id))).toBe('2026-07-01T00:00..2026-08-01T00:00');
  expect(after.get('invoice', String(after.get('subscription', id).latest_invoice))).toMatchObject({
    total: 9_000,
    status: 'paid',
  });
});
