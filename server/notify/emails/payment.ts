import { type EmailContent, type EmailContext, facts, linkTo, manageLink, paragraph } from '../content.ts';
import { day, moment, money, planName, tierName } from '../format.ts';
import type { EmailTemplates, Plan } from '../templates.ts';

export function paymentFailed(data: EmailTemplates['payment_failed'], context: EmailContext): EmailContent {
  const { plan, attempt, nextAttemptAt } = data;
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
        data.begins ? BEGINS : null,
        data.over ? OVER : null,
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
  { plan, begins, over, amountCents, currency, payUrl }: EmailTemplates['payment_action_required'],
  context: EmailContext,
): EmailContent {
  const amount = money(amountCents, currency);
  const confirm = linkTo(context, 'Confirm payment', payUrl);
  return {
    subject: `Please confirm your payment of ${amount}`,
    preview: 'Your bank asks you to confirm it before it goes through.',
    heading: 'Please confirm your payment',
    blocks: [
      paragraph(
        `Your bank asks you to confirm the payment of ${amount}${forPlan(plan)}. It is not complete until you do.`,
        begins ? BEGINS : null,
        over ? OVER : null,
        confirm.length > 0 ? null : 'Open the invoice in the customer portal to confirm it.',
      ),
      facts(['Amount', amount], plan && ['Plan', planName(plan)]),
      ...(confirm.length > 0 ? confirm : manageLink(context)),
    ],
  };
}

const BEGINS = 'Your subscription begins once this payment has gone through.';
const OVER = 'The subscription it is for has ended, and paying does not bring it back.';

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
        ...[...chargeRows(data), ...totalRows(data)].map(
          ([label, cents]) => [label, money(cents, data.currency)] as const,
        ),
        ['Paid', amount],
      ),
      ...linkTo(context, 'View invoice', data.hostedInvoiceUrl),
    ],
  };
}

type Receipt = EmailTemplates['payment_receipt'];
type Row = readonly [label: string, cents: number];

/** A mail much longer than this is cut off by those who show it. */
const MOST_LINES = 100;

/** What was charged for, and what was taken off and came on top: these rows add up to the total. */
function chargeRows({ charges }: Receipt): readonly Row[] {
  if (charges === null) return [];
  const { lines, discounts, creditsCents, shippingCents, taxCents } = charges;
  const all = lines.reduce((sum, { amountCents }) => sum + amountCents, 0);
  return [
    ...(lines.length > MOST_LINES
      ? [[`${lines.length} items`, all] as const]
      : lines.map(({ description, amountCents }) => [description ?? 'Item', amountCents] as const)),
    ...discounts.map(
      ({ name, amountCents }) => [name === null ? 'Discount' : `Discount (${name})`, -amountCents] as const,
    ),
    ...present(['Credits applied', -creditsCents], ['Shipping', shippingCents], ['Tax', taxCents]),
  ];
}

/** The total, where it is not simply what was paid, and what the rows from there to that are. */
function totalRows(data: Receipt): readonly Row[] {
  const { charges, totalCents, includedTaxCents, settlement, amountCents } = data;
  if (totalCents === null) return [];
  const settled = settlement ? settlementRows(settlement) : [];
  const taxed: readonly Row[] = present(['Tax included in the items', includedTaxCents]);
  const oneRow = charges !== null && chargeRows(data).length === 1;
  const plain = totalCents === amountCents && taxed.length === 0 && (charges === null || oneRow);
  return plain ? [] : [['Total', totalCents], ...taxed, ...settled];
}

function settlementRows({
  balanceCents,
  creditNotesCents,
}: NonNullable<Receipt['settlement']>): readonly Row[] {
  return present(
    [balanceCents < 0 ? 'Paid from your credit balance' : 'Owed from before', balanceCents],
    ['Credit notes', -creditNotesCents],
  );
}

const present = (...rows: readonly Row[]): readonly Row[] => rows.filter(([, cents]) => cents !== 0);

/** The page where the invoice is paid; the customer portal leads there too. */
function payLink(context: EmailContext, payUrl: string | null, label: string) {
  const pay = linkTo(context, label, payUrl);
  return pay.length > 0 ? pay : manageLink(context);
}

function forPlan(plan: Plan | null): string {
  return plan === null ? '' : ` for ${tierName(plan.tier)}`;
}
