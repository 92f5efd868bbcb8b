import { expect, it } from 'vitest';
import { type BillingRow, billingState } from '../../server/billing/state.ts';

const NOW = new Date('2026-05-10T12:00:00Z');
const LATER = NOW.getTime() + 1_000;

const pack = (
  state: 'active' | 'suspended' | 'revoked' | 'expired',
  remainingSeconds: number,
  expiresMs = LATER,
): BillingRow => ({ subscription: null, trialPack: { state, remainingSeconds, expiresMs } });

it.each([
  ['is active with credit inside its 14 days', pack('active', 59_800), true, 299],
  ['rounds what is left up to whole cents', pack('active', 1), true, 1],
  ['counts whole cents exactly', pack('active', 400), true, 2],
  ['is over when spent', pack('active', 0), false, 0],
  ['is over at the moment it expires, job or no job', pack('active', 59_800, NOW.getTime()), false, 0],
  ['is over once written off', pack('expired', 0), false, 0],
  ['is over once refunded', pack('revoked', 59_800), false, 0],
  ['keeps its credit during a dispute but cannot be used', pack('suspended', 200), false, 1],
])('a trial pack %s', (_what, row, active, cents) => {
  expect(billingState(row, NOW).trial_pack).toMatchObject({
    active,
    credit_cents_remaining: cents,
    redeemed: true,
  });
});

it('a trial pack that was never bought has no end', () => {
  expect(billingState({ subscription: null, trialPack: null }, NOW)).toEqual({
    subscription: null,
    trial_pack: { active: false, credit_cents_remaining: 0, expires_at: null, redeemed: false },
  });
});
