import { applyTrialPack } from '../credit/apply.ts';
import { projectTrialPack } from '../credit/project.ts';
import { AuditEntry } from '../database/entities/journal.ts';
import type { Alarm } from './deps.ts';
import type { Effect, Source } from './effects.ts';
import type { PackPurchase } from './purchase.ts';
import type { Recording } from './record-fact.ts';
import { noteUnrecognised } from './unrecognised.ts';

/** Carries out what a purchase of the trial pack means: an account has one, and gets back what more it pays. */
export async function recordPack(
  context: Recording,
  purchase: PackPurchase,
  source: Source,
): Promise<Effect[]> {
  const { tx, account, now } = context;
  const outcome = await applyTrialPack(tx, { accountId: account.id, facts: purchase, cause: source }, now);
  switch (outcome) {
    case 'unpaid':
      return [];
    case 'second_purchase':
    case 'second_purchase_refunded':
      return await giveBack(context, purchase, source, {
        what: purchase.sessionId,
        cents: purchase.money.packsCents,
      });
    case 'granted':
    case 'changed':
    case 'unchanged':
      return [
        ...(await giveBackMore(context, purchase, source)),
        ...(await notePartOfRefund(context, purchase, source)),
      ];
  }
}

/** Several packs in one purchase: one is granted, and the others are second ones like any. */
async function giveBackMore(context: Recording, purchase: PackPurchase, source: Source): Promise<Effect[]> {
  const { sessionId, amountCents, money } = purchase;
  const cents = money.packsCents - amountCents;
  // A whole payment that was given back leaves nothing to give.
  if (cents <= 0 || money.refundedCents >= money.takenCents) return [];
  return await giveBack(context, purchase, source, { what: `${sessionId}:more`, cents });
}

/**
 * The one place where a second paid trial pack is given back. Once that is written down no refund follows: money
 * that comes back to us later, of a refund the bank could not deliver or a dispute we won, is for a person to look
 * after, who is told of it until it has been given back.
 */
async function giveBack(
  { tx, stripe, alarms }: Recording,
  purchase: PackPurchase,
  source: Source,
  { what, cents }: { what: string; cents: number },
): Promise<Effect[]> {
  const { paymentIntentId, sessionId: target, currency, money } = purchase;
  const key = `duplicate:${what}`;
  const alarm: Alarm = { kind: 'duplicate_trial_pack', details: { checkout_session_id: target } };
  const leftCents = cents - money.refundedCents;
  if (await tx.findOne(AuditEntry, { dedupeKey: key })) {
    const isForUs = paymentIntentId !== null && projectTrialPack(purchase).standing === 'paid';
    if (leftCents > 0 && isForUs) alarms.push(alarm);
    return [];
  }
  let refundedCents = cents;
  if (leftCents > 0) {
    alarms.push(alarm);
    if (paymentIntentId === null) return unreturned({ key, target, cents: leftCents, currency, source });
    // Of a payment for other things as well, or for several packs, only what is owed.
    const isPart = cents < money.takenCents;
    const refunded = isPart
      ? await stripe.refund(paymentIntentId, `safety_refund:${paymentIntentId}:${leftCents}`, leftCents)
      : await stripe.refund(paymentIntentId, `safety_refund:${paymentIntentId}`);
    if (refunded === 'refused') return unreturned({ key, target, cents: leftCents, currency, source });
    if (refunded === 'charged_back') refundedCents = Math.min(cents, money.refundedCents);
  }
  return [
    {
      kind: 'audit',
      key,
      action: 'trial_pack.duplicate_refunded',
      target,
      payload: { refunded_cents: refundedCents, currency, payment_intent: paymentIntentId, ...source },
    },
    {
      kind: 'mail',
      key,
      template: 'duplicate_purchase_refunded',
      data: { purchase: 'trial_pack', amountCents: refundedCents || null, currency },
    },
  ];
}

type Unreturned = { key: string; target: string; cents: number; currency: string; source: Source };

/**
 * Paid in cash, from a balance or in several parts, or Stripe refuses the refund: what is owed is given back by a
 * person, who is told.
 */
function unreturned({ key, target, cents, currency, source }: Unreturned): Effect[] {
  const payload = { reason: 'second_trial_pack', amount_cents: cents, currency, ...source };
  return [{ kind: 'audit', key, action: 'payment.unrecognised', target, payload }];
}

/** A part of a payment for several things was given back, and Stripe does not say for which. */
async function notePartOfRefund(
  context: Recording,
  { sessionId: target, currency, amountCents, money }: PackPurchase,
  source: Source,
): Promise<Effect[]> {
  const { refundedCents, takenCents, packsCents } = money;
  const ours = packsCents - amountCents;
  const unclear = takenCents > amountCents && refundedCents > ours && refundedCents < takenCents;
  if (!unclear) return [];
  const key = `refund_in_part:${target}:${refundedCents}`;
  const paid = { target, amountCents: refundedCents, currency, reason: 'refunded_in_part' } as const;
  return await noteUnrecognised(context, { ...paid, key }, source);
}
