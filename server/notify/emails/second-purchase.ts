import { type EmailContent, type EmailContext, facts, manageLink, paragraph } from '../content.ts';
import { money, planName } from '../format.ts';
import type { EmailTemplates } from '../templates.ts';

type Data = EmailTemplates['duplicate_purchase_refunded'];

export function duplicatePurchaseRefunded(data: Data, context: EmailContext): EmailContent {
  return data.purchase === 'trial_pack' ? secondPack(data, context) : secondSubscription(data, context);
}

function secondPack({ amountCents, currency }: Data, context: EmailContext): EmailContent {
  const amount = amountCents === null ? null : money(amountCents, currency);
  return {
    subject:
      amount === null ? 'We cancelled a second purchase' : `We refunded a second purchase of ${amount}`,
    preview: 'Your account had it already, so you are not charged twice.',
    heading: 'You bought the same thing twice',
    blocks: [
      paragraph(
        'Your account has already had its trial pack, and there is one per account, so the second purchase does not count.',
        amount === null
          ? 'No money for the second one is left with us.'
          : `We sent ${amount} back to your payment method; banks take some days to show it.`,
        'There is nothing you need to do.',
      ),
      ...manageLink(context),
    ],
  };
}

/** Says which subscription we ended, and what was sent back of it; of the rest only who decides about it. */
function secondSubscription(
  { amountCents, currency, ended, kept, rest }: Data,
  context: EmailContext,
): EmailContent {
  const amount = amountCents === null ? null : money(amountCents, currency);
  return {
    subject:
      amount === null ? 'We ended a second subscription' : `We refunded a second subscription: ${amount}`,
    preview: 'Your account had two subscriptions at the same time.',
    heading: 'You had two subscriptions',
    blocks: [
      paragraph(
        'Your account had two subscriptions at the same time, so we ended one of them.',
        amount === null
          ? null
          : `We sent ${amount} of what you had paid for it for that time back to your payment method; banks take some days to show it.`,
        rest === undefined ? null : REST[rest],
        amount === null && rest === 'none'
          ? 'So far your payment method has not been charged for it for that time, so nothing was sent back. Should a payment still be under way, we look at it when it arrives.'
          : null,
      ),
      ...(ended || kept
        ? [facts(ended ? ['Ended', planName(ended)] : null, kept ? ['Goes on', planName(kept)] : null)]
        : []),
      ...manageLink(context),
    ],
  };
}

const REST = {
  none: null,
  with_person:
    'What else you may have paid for that time has not been sent back automatically: our team has been told to look at it.',
  with_bank: 'A payment for it was disputed at your bank, so what becomes of that money is decided there.',
} satisfies Record<NonNullable<Data['rest']>, string | null>;
