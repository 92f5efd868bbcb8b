import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { GRANTED_SECONDS, projectTrialPack, type TrialPackFacts } from '../../server/credit/project.ts';
import {
  changeOf,
  creditCentsRemaining,
  expiryOf,
  noticeDueAt,
  settle,
  spendableSeconds,
} from '../../server/credit/rules.ts';

const paidAt = new Date('2026-05-01T12:00:00Z');
const expiresAt = expiryOf(paidAt);
const before = new Date('2026-05-10T00:00:00Z');
const OPEN = ['needs_response', 'under_review', 'warning_needs_response', 'warning_under_review'];
const SETTLED = ['won', 'warning_closed', 'prevented'];

function facts(over: Partial<TrialPackFacts> = {}): TrialPackFacts {
  return {
    sessionId: 'cs_test_1',
    paymentIntentId: 'pi_1',
    paid: true,
    paidAt,
    amountCents: 299,
    amountRefundedCents: 0,
    currency: 'usd',
    disputeStatuses: [],
    ...over,
  };
}

describe('what a purchase is worth', () => {
  test('is nothing while the money has not come, whatever else is known', () => {
    expect(projectTrialPack(facts({ paid: false, amountRefundedCents: 299 }))).toEqual({
      standing: 'unpaid',
    });
  });

  test('is 59,800 concurrent-seconds once it has', () => {
    expect(projectTrialPack(facts())).toEqual({ standing: 'paid', allowedSeconds: 59_800 });
  });

  test('is the same where there was nothing to charge', () => {
    expect(projectTrialPack(facts({ amountCents: 0 }))).toEqual({ standing: 'paid', allowedSeconds: 59_800 });
  });

  test('shrinks by exactly what a partial refund gave back', () => {
    const { standing, ...rest } = projectTrialPack(facts({ amountRefundedCents: 100 }));
    expect({ standing, ...rest }).toEqual({ standing: 'paid', allowedSeconds: 199 * 200 });
  });

  test('is in proportion to what was charged, tax included, and rounded in favour of the customer', () => {
    expect(projectTrialPack(facts({ amountCents: 356, amountRefundedCents: 178 }))).toMatchObject({
      allowedSeconds: 29_900,
    });
    expect(projectTrialPack(facts({ amountCents: 3, amountRefundedCents: 1 }))).toMatchObject({
      allowedSeconds: 39_867,
    });
  });

  test('is nothing after a whole refund or a lost dispute', () => {
    expect(projectTrialPack(facts({ amountRefundedCents: 299 }))).toMatchObject({ standing: 'refunded' });
    expect(projectTrialPack(facts({ disputeStatuses: ['won', 'lost'] }))).toMatchObject({
      standing: 'dispute_lost',
    });
  });

  test.each(OPEN)('is on hold while a dispute is %s', (status) => {
    expect(projectTrialPack(facts({ disputeStatuses: ['won', status] })).standing).toBe('disputed');
  });

  test('is on hold under a dispute status nobody has heard of', () => {
    expect(projectTrialPack(facts({ disputeStatuses: ['brand_new'] })).standing).toBe('disputed');
  });

  test.each(SETTLED)('is whole again when the dispute is %s', (status) => {
    expect(projectTrialPack(facts({ disputeStatuses: [status] })).standing).toBe('paid');
  });
});

describe('where a pack stands', () => {
  const paid = { standing: 'paid', allowedSeconds: GRANTED_SECONDS } as const;

  test('is what is paid for less what was spent, and never below zero', () => {
    expect(settle(paid, { spentSeconds: 800, expiresAt }, before)).toEqual({
      state: 'active',
      remainingSeconds: 59_000,
    });
    const refundedInPart = { standing: 'paid', allowedSeconds: 500 } as const;
    expect(settle(refundedInPart, { spentSeconds: 800, expiresAt }, before).remainingSeconds).toBe(0);
  });

  test('is expired from the very moment the 14 days are over', () => {
    const justBefore = new Date(expiresAt.getTime() - 1);
    expect(expiresAt).toEqual(new Date('2026-05-15T12:00:00Z'));
    expect(settle(paid, { spentSeconds: 0, expiresAt }, justBefore).state).toBe('active');
    expect(settle(paid, { spentSeconds: 0, expiresAt }, expiresAt)).toEqual({
      state: 'expired',
      remainingSeconds: 0,
    });
  });

  test('keeps its credit while on hold, but nothing of it can be spent', () => {
    const standing = settle(
      { standing: 'disputed', allowedSeconds: 600 },
      { spentSeconds: 0, expiresAt },
      before,
    );
    expect(standing).toEqual({ state: 'suspended', remainingSeconds: 600 });
    expect(spendableSeconds({ ...standing, expiresAt }, before)).toBe(0);
  });

  test('a dispute that ends after the 14 days brings nothing back', () => {
    expect(settle(paid, { spentSeconds: 0, expiresAt }, expiresAt).state).toBe('expired');
  });

  test('says revoked rather than expired when the money went back', () => {
    const refunded = { standing: 'refunded', allowedSeconds: 0 } as const;
    expect(settle(refunded, { spentSeconds: 0, expiresAt }, expiresAt).state).toBe('revoked');
  });

  test('can be spent up to the end, even if no job has closed it since', () => {
    const pack = { state: 'active', remainingSeconds: 60, expiresAt } as const;
    expect(spendableSeconds(pack, new Date(expiresAt.getTime() - 1))).toBe(60);
    expect(spendableSeconds(pack, expiresAt)).toBe(0);
  });
});

test('the notice of the end is due a day before it', () => {
  expect(noticeDueAt(expiresAt)).toEqual(new Date('2026-05-14T12:00:00Z'));
});

test.each([
  [0, 0],
  [1, 1],
  [200, 1],
  [201, 2],
  [59_800, 299],
])('%i seconds are %i cents', (seconds, cents) => {
  expect(creditCentsRemaining(seconds)).toBe(cents);
});

test('a step is named by where it leads, and the same place is no step', () => {
  const at = (state: 'active' | 'suspended' | 'revoked' | 'expired', remainingSeconds: number) => ({
    state,
    remainingSeconds,
  });
  expect(changeOf(at('active', 5), at('active', 5))).toBeNull();
  expect(changeOf(at('active', 5), at('suspended', 5))).toBe('suspended');
  expect(changeOf(at('suspended', 5), at('active', 5))).toBe('reinstated');
  expect(changeOf(at('active', 5), at('active', 4))).toBe('reduced');
  expect(changeOf(at('active', 4), at('active', 5))).toBe('reinstated');
  expect(changeOf(at('active', 5), at('revoked', 0))).toBe('revoked');
  expect(changeOf(at('suspended', 5), at('expired', 0))).toBe('expired');
});

const anyFacts = fc
  .record({
    paid: fc.constant(true),
    amountCents: fc.constantFrom(299, 356, 100_000),
    refunded: fc.double({ min: 0, max: 1, noNaN: true }),
    disputeStatuses: fc.array(fc.constantFrom(...OPEN, ...SETTLED, 'lost'), { maxLength: 3 }),
  })
  .map(({ refunded, ...rest }) =>
    facts({ ...rest, amountRefundedCents: Math.round(refunded * rest.amountCents) }),
  );

test('no facts, no use and no moment give a balance below zero or above the grant', () => {
  fc.assert(
    fc.property(
      anyFacts,
      fc.nat(GRANTED_SECONDS),
      fc.nat(30 * 86_400),
      (given, spentSeconds, laterSeconds) => {
        const projection = projectTrialPack(given);
        if (projection.standing === 'unpaid') throw new Error('these facts are all paid');
        const now = new Date(paidAt.getTime() + laterSeconds * 1_000);
        const { state, remainingSeconds } = settle(projection, { spentSeconds, expiresAt }, now);
        expect(Number.isInteger(remainingSeconds)).toBe(true);
        expect(remainingSeconds).toBeGreaterThanOrEqual(0);
        expect(remainingSeconds + spentSeconds).toBeLessThanOrEqual(Math.max(GRANTED_SECONDS, spentSeconds));
        if (state === 'revoked' || state === 'expired') expect(remainingSeconds).toBe(0);
      },
    ),
    { numRuns: 1_000 },
  );
});
