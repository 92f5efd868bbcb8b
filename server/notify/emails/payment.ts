import { type EmailContent, type EmailContext, facts, linkTo, manageLink, paragraph } from '../content.ts';
import { day, moment, money, planName, tierName } from '../format.ts';
import type { EmailTemplates, Plan } from '../templates.ts';

export function paymentFailed(data: EmailTemplates['payment_failed'], context: EmailContext): EmailContent {
  const { plan, attempt, nextAttemptAt, planUntil } = data;
  const amount = money(data.amountCents, data.currency);
  const next = nextAttemptAt === null ? 'none' : moment(nextAttemptAt);
  return {
    subject: `Your payment of ${amount} failed`,
    preview: nextAttemptAt === null ? 'There will be no further attempt.' : `Next attempt: ${next}.`,
    heading: 'Your payment did not go through',
    blocks: [
      paragraph(
        attempt === 1
          ? `We could not collect ${amount}${forPlan(plan)}.`
          : `Attempt ${attempt} to collect ${amount}${forPlan(plan)} failed as well.`,
        nextAttemptAt === null
          ? 'There will be no further attempt.'
          : 'The payment will be attempted again. To settle it sooner, pay now or change the payment method.',
        planUntil && `Your plan stays in place until ${day(planUntil)}.`,
      ),
      facts(
        ['Amount', amount],
        plan && ['Plan', planName(plan)],
        ['Attempt', String(attempt)],
        ['Next attempt', next],
      ),
      ...payLink(context, data.payUrl, `Pay ${amount}`),
    ],
  };
}

export function paymentActionRequired(
  { plan, amountCents, currency, payUrl }: EmailTemplates['payment_action_required'],
  context: EmailContext,
): EmailContent {
  const amount = money(amountCents, currency);
  return {
    subject: `Please confirm your payment of ${amount}`,
    preview: 'Your bank asks you to confirm it before it goes through.',
    heading: 'Please confirm your payment',
    blocks: [
      paragraph(
        `Your bank asks you to confirm the payment of ${amount}${forPlan(plan)}. It is not complete until you do.`,
      ),
      facts(['Amount', amount], plan && ['Plan', planName(plan)]),
      ...payLink(context, payUrl, 'Confirm payment'),
    ],
  };
}

export function paymentReceipt(data: EmailTemplates['payment_receipt'], context: EmailContext): EmailContent {
  const amount = money(data.amountCents, data.currency);
  const number = data.invoiceNumber;
  return {
    subject: number === null ? `Receipt for ${amount}` : `Receipt for ${amount}, invoice ${number}`,
    preview: `Paid on ${day(data.paidAt)}. Thank you.`,
    heading: 'Your receipt',
    blocks: [
      paragraph(`Thank you. We received ${amount} on ${day(data.paidAt)}.`),
      facts(
        number === null ? null : ['Invoice', number],
        ...data.lines.map((line) => [line.description, money(line.amountCents, data.currency)] as const),
        rest(data),
        data.taxCents === 0 ? null : ['Tax', money(data.taxCents, data.currency)],
        ['Paid', amount],
      ),
      ...linkTo(context, 'View invoice', data.hostedInvoiceUrl),
    ],
  };
}

/** What an invoice takes off or carries over, so that the rows add up to what was paid. */
function rest({ amountCents, taxCents, lines, currency }: EmailTemplates['payment_receipt']) {
  const restCents = amountCents - taxCents - lines.reduce((sum, line) => sum + line.amountCents, 0);
  if (restCents === 0) return null;
  return [restCents < 0 ? 'Discounts and credit' : 'Carried over', money(restCents, currency)] as const;
}

/** The page where the invoice is paid; the customer portal leads there too. */
function payLink(context: EmailContext, payUrl: string | null, label: string) {
  const pay = linkTo(context, label, payUrl);
  return pay.length > 0 ? pay : manageLink(context);
}

function forPlan(plan: Plan | null): string {
  return plan === null ? '' : ` for ${tierName(plan.tier)}`;
}
