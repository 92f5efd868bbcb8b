import { TRIAL_PACK } from '../../../shared/catalog.ts';
import { type EmailContent, type EmailContext, facts, manageLink, paragraph } from '../content.ts';
import { credit, duration, moment, money } from '../format.ts';
import type { EmailTemplates } from '../templates.ts';

export function trialPackReady(
  { creditCents, expiresAt, amountCents, currency }: EmailTemplates['trial_pack_ready'],
  context: EmailContext,
): EmailContent {
  return {
    subject: `Your trial pack is ready: ${credit(creditCents)} of credit`,
    preview: `It can be spent until ${moment(expiresAt)}.`,
    heading: 'Your trial pack is ready',
    blocks: [
      paragraph(
        `Thank you. You can now spend ${credit(creditCents)} of session time: ${duration(creditCents * TRIAL_PACK.secondsPerCent)} of one session, or less of several at once.`,
        `What is left after ${TRIAL_PACK.days} days expires. Nothing renews by itself.`,
      ),
      facts(
        ['Credit', credit(creditCents)],
        ['Spend until', moment(expiresAt)],
        ['Paid', money(amountCents, currency)],
      ),
      ...manageLink(context),
    ],
  };
}

export function trialPackPaymentFailed(
  { amountCents, currency }: EmailTemplates['trial_pack_payment_failed'],
  context: EmailContext,
): EmailContent {
  const amount = money(amountCents, currency);
  return {
    subject: 'The payment for your trial pack failed',
    preview: 'Nothing was charged. You can buy the pack again.',
    heading: 'The payment for your trial pack failed',
    blocks: [
      paragraph(
        `Your bank did not complete the payment of ${amount}, so nothing was charged and no credit was added. You can buy the trial pack again, with the same or another payment method.`,
      ),
      ...manageLink(context),
    ],
  };
}

export function trialPackSuspended(
  { creditCents, expiresAt }: EmailTemplates['trial_pack_suspended'],
  _context: EmailContext,
): EmailContent {
  return {
    subject: 'Your trial credit is on hold',
    preview: 'The payment for your trial pack is disputed at the bank.',
    heading: 'Your trial credit is on hold',
    blocks: [
      paragraph(
        'The payment for your trial pack is disputed at the bank. Until that is settled the credit cannot be spent. If it is settled in favour of the payment before the credit expires, the credit can be spent again.',
      ),
      facts(['Credit on hold', credit(creditCents)], ['Expires', moment(expiresAt)]),
    ],
  };
}

export function trialPackReinstated(
  { creditCents, expiresAt }: EmailTemplates['trial_pack_reinstated'],
  context: EmailContext,
): EmailContent {
  return {
    subject: 'Your trial credit is available again',
    preview: `${credit(creditCents)} can be spent until ${moment(expiresAt)}.`,
    heading: 'Your trial credit is available again',
    blocks: [
      paragraph('You can spend the credit of your trial pack again. When it expires has not changed.'),
      facts(['Credit', credit(creditCents)], ['Spend until', moment(expiresAt)]),
      ...manageLink(context),
    ],
  };
}

export function trialPackRefunded(
  data: EmailTemplates['trial_pack_refunded'],
  context: EmailContext,
): EmailContent {
  return data.refundedCents === null
    ? disputeLost(context)
    : refunded({ ...data, refundedCents: data.refundedCents }, context);
}

type Refund = EmailTemplates['trial_pack_refunded'] & { refundedCents: number };

function refunded({ refundedCents, currency, creditCents }: Refund, context: EmailContext): EmailContent {
  const amount = money(refundedCents, currency);
  const isWhole = creditCents === 0;
  return {
    subject: isWhole ? 'Your trial pack was refunded' : 'Your trial pack was refunded in part',
    preview: `${amount} is on its way back. Credit left: ${credit(creditCents)}.`,
    heading: isWhole ? 'Your trial pack was refunded' : 'Your trial pack was refunded in part',
    blocks: [
      paragraph(
        `${amount} of what you paid for your trial pack was sent back to your payment method; banks take some days to show it.`,
        isWhole
          ? 'There is no trial credit left to spend.'
          : 'Your credit was lowered by the same part, and what is left can be spent as before.',
        'A trial pack can be bought once per account; a refund does not change that.',
      ),
      facts(['Refunded', amount], ['Credit left', credit(creditCents)]),
      ...manageLink(context),
    ],
  };
}

function disputeLost(context: EmailContext): EmailContent {
  return {
    subject: 'Your trial pack was withdrawn',
    preview: 'The bank has returned the payment to you.',
    heading: 'Your trial pack was withdrawn',
    blocks: [
      paragraph(
        'The dispute over the payment for your trial pack was decided in your favour, and the bank has returned the money. The credit can no longer be spent.',
      ),
      ...manageLink(context),
    ],
  };
}

export function trialPackExpired(
  { unspentCents, expiredAt }: EmailTemplates['trial_pack_expired'],
  context: EmailContext,
): EmailContent {
  return {
    subject: 'Your trial credit has expired',
    preview: `${credit(unspentCents)} was left. Nothing more will be charged.`,
    heading: 'Your trial credit has expired',
    blocks: [
      paragraph(
        `The ${TRIAL_PACK.days} days of your trial pack are over. Nothing more will be charged for it. To go on, choose a subscription.`,
      ),
      facts(['Expired', moment(expiredAt)], ['Left unspent', credit(unspentCents)]),
      ...manageLink(context),
    ],
  };
}
