import { applyTrialPack } from '../../../credit/apply.ts';
import { projectTrialPack } from '../../../credit/project.ts';
import { AuditEntry } from '../../../database/entities/journal.ts';
import type { Alarm } from '../../deps.ts';
import type { Effect, Source } from '../effects.ts';
import type { Recording } from '../record-fact.ts';
import { countedForSubscription, SECOND_PACK } from '../second/shared-charge.ts';
import { readPayment } from './payment.ts';
import type { PackPurchase } from './purchase.ts';
import { noteUnrecognised } from './unrecognised.ts';

/** Carries out what a purchase of the trial pack means: an account has one, and gets back what more it pays. */
export async function recordPack(context: Recording, read: PackPurchase, source: Source): Promise<Effect[]> {
  const { tx, account, now } = context;
  const purchase = await withoutSubscription(context, read);
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

/**
 * The purchase, less what was given back for a second subscription on the same charge: that money is gone, and pays
 * for no pack. It can have been given back since the purchase was read.
 */
async function withoutSubscription(context: Recording, read: PackPurchase): Promise<PackPurchase> {
  const { paymentIntentId, money, sessionId } = read;
  if (money.takenCents <= money.packsCents) return read;
  const effects = [...context.effects, ...[...context.late.values()].flat()];
  const elsewhereCents = await countedForSubscription({ ...context, effects }, sessionId);
  if (elsewhereCents === 0) return read;
  const now = paymentIntentId === null ? null : await readPayment(context.stripe, paymentIntentId);
  const refundedCents = now?.taken?.refundedCents ?? money.refundedCents;
  return {
    ...read,
    amountRefundedCents: Math.max(0, refundedCents - (money.takenCents - read.amountCents)),
    money: {
      packsCents: money.packsCents,
      refundedCents: Math.max(0, refundedCents - elsewhereCents),
      takenCents: money.takenCents - elsewhereCents,
      elsewhereCents,
    },
  };
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
  { tx, stripe, alarms, effects }: Recording,
  purchase: PackPurchase,
  source: Source,
  { what, cents }: { what: string; cents: number },
): Promise<Effect[]> {
  const { paymentIntentId, sessionId: target, currency, money } = purchase;
  const key = `duplicate:${what}`;
  const alarm: Alarm = { kind: 'duplicate_trial_pack', details: { paid_in: target } };
  const leftCents = cents - money.refundedCents;
  // Told of twice, by its session and by its invoice.
  if (effects.some((effect) => effect.key === key)) return [];
  if (await tx.findOne(AuditEntry, { dedupeKey: key })) {
    const isForUs = paymentIntentId !== null && projectTrialPack(purchase).standing === 'paid';
    if (leftCents > 0 && isForUs) alarms.push(alarm);
    return [];
  }
  let refundedCents = cents;
  if (leftCents > 0) {
    alarms.push(alarm);
    const left = { key, target, cents: leftCents, refundedCents: money.refundedCents, currency, source };
    if (paymentIntentId === null) return unreturned(left);
    // Of a payment for other things as well, or for several packs, only what is owed. What was given back of it by now
    // stands in the key: after that it is another refund, be it of the same amount.
    const isPart = cents < money.takenCents || money.elsewhereCents > 0;
    const before = money.refundedCents + money.elsewhereCents;
    const refunded = isPart
      ? await stripe.refund(
          paymentIntentId,
          `safety_refund:pack:${paymentIntentId}:${before}:${leftCents}`,
          leftCents,
        )
      : await stripe.refund(paymentIntentId, `safety_refund:${paymentIntentId}`);
    if (refunded === 'refused') return unreturned(left);
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

type Unreturned = {
  key: string;
  target: string;
  cents: number;
  /** What had been given back of it before. */
  refundedCents: number;
  currency: string;
  source: Source;
};

/**
 * Paid in cash, from a balance or in several parts, or Stripe refuses the refund: what is owed is given back by a
 * person, who is told.
 */
function unreturned({ key, target, cents, refundedCents, currency, source }: Unreturned): Effect[] {
  const refunded = refundedCents > 0 ? { refunded_cents: refundedCents } : {};
  const payload = { reason: SECOND_PACK, amount_cents: cents, ...refunded, currency, ...source };
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
