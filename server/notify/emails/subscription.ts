import { type EmailContent, type EmailContext, facts, linkTo, manageLink, paragraph } from '../content.ts';
import { day, moment, money, planName, tierName } from '../format.ts';
import type { EmailTemplates } from '../templates.ts';

export function subscriptionStarted(
  { plan, currentPeriodEnd, trialEndsAt }: EmailTemplates['subscription_started'],
  context: EmailContext,
): EmailContent {
  const name = tierName(plan.tier);
  const first = trialEndsAt === null ? null : `The first payment is taken on ${day(trialEndsAt)}.`;
  return {
    subject: `Your ${name} subscription has started`,
    preview: first ?? `It renews on ${day(currentPeriodEnd)}.`,
    heading: 'Your subscription has started',
    blocks: [
      paragraph(`Thank you. Your account is now on ${name}.`, first),
      facts(
        ['Plan', planName(plan)],
        trialEndsAt === null ? ['Renews on', day(currentPeriodEnd)] : ['Trial ends on', day(trialEndsAt)],
      ),
      ...manageLink(context),
    ],
  };
}

export function cancellationScheduled(
  { plan, endsAt }: EmailTemplates['cancellation_scheduled'],
  context: EmailContext,
): EmailContent {
  return {
    subject: `Your subscription ends on ${day(endsAt)}`,
    preview: `${tierName(plan.tier)} works until then. You can undo this.`,
    heading: 'Your subscription is set to end',
    blocks: [
      paragraph(
        `Your ${tierName(plan.tier)} subscription will not renew. It works as before until it ends, and until then you can undo the cancellation in the customer portal.`,
      ),
      facts(['Plan', planName(plan)], ['Ends', moment(endsAt)]),
      ...manageLink(context),
    ],
  };
}

export function cancellationUndone(
  { plan, renewsAt }: EmailTemplates['cancellation_undone'],
  context: EmailContext,
): EmailContent {
  return {
    subject: 'Your subscription continues',
    preview: `The cancellation was undone. It renews on ${day(renewsAt)}.`,
    heading: 'Your subscription continues',
    blocks: [
      paragraph(`The cancellation was undone, and your ${tierName(plan.tier)} subscription goes on.`),
      facts(['Plan', planName(plan)], ['Renews on', day(renewsAt)]),
      ...manageLink(context),
    ],
  };
}

export function subscriptionEnded(
  { plan, endedAt }: EmailTemplates['subscription_ended'],
  context: EmailContext,
): EmailContent {
  return {
    subject: `Your ${tierName(plan.tier)} subscription has ended`,
    preview: 'There will be no further charges for it.',
    heading: 'Your subscription has ended',
    blocks: [
      paragraph(
        `Your ${tierName(plan.tier)} subscription has ended and will not be charged again. You can subscribe again at any time.`,
      ),
      facts(['Plan', planName(plan)], ['Ended', moment(endedAt)]),
      ...manageLink(context),
    ],
  };
}

export function subscriptionPaused(
  { plan, reason, payUrl }: EmailTemplates['subscription_paused'],
  context: EmailContext,
): EmailContent {
  const name = tierName(plan.tier);
  const pay = linkTo(context, 'Pay the open invoice', payUrl);
  return {
    subject: `Your ${name} subscription is on hold`,
    preview: WHAT_TO_DO[reason],
    heading: 'Your subscription is on hold',
    blocks: [
      paragraph(`${WHY_PAUSED[reason]}, so ${name} cannot be used for now.`, WHAT_TO_DO[reason]),
      facts(['Plan', planName(plan)]),
      ...(pay.length > 0 ? pay : manageLink(context)),
    ],
  };
}

type PauseReason = EmailTemplates['subscription_paused']['reason'];

const WHY_PAUSED = {
  unpaid: 'The last payment failed and will not be attempted again',
  paused: 'Your trial has ended without a payment method',
} satisfies Record<PauseReason, string>;

const WHAT_TO_DO = {
  unpaid: 'Pay the open invoice to go on.',
  paused: 'Add a payment method in the customer portal to go on.',
} satisfies Record<PauseReason, string>;

export function subscriptionResumed(
  { plan }: EmailTemplates['subscription_resumed'],
  context: EmailContext,
): EmailContent {
  return {
    subject: `Your ${tierName(plan.tier)} subscription works again`,
    preview: 'It is no longer on hold.',
    heading: 'Your subscription works again',
    blocks: [
      paragraph('Thank you. Your subscription is no longer on hold.'),
      facts(['Plan', planName(plan)]),
      ...manageLink(context),
    ],
  };
}

export function trialEnding(
  { plan, trialEndsAt }: EmailTemplates['trial_ending'],
  context: EmailContext,
): EmailContent {
  return {
    subject: `Your ${tierName(plan.tier)} trial ends on ${day(trialEndsAt)}`,
    preview: 'The first payment is taken then, unless you cancel before.',
    heading: 'Your trial ends soon',
    blocks: [
      paragraph(
        `When the trial ends, your ${tierName(plan.tier)} subscription goes on and the first payment is taken. If you do not want that, cancel in the customer portal before then.`,
      ),
      facts(['Plan', planName(plan)], ['Trial ends', moment(trialEndsAt)]),
      ...manageLink(context),
    ],
  };
}

export function renewalUpcoming(
  { plan, amountCents, currency, renewsAt, charged }: EmailTemplates['renewal_upcoming'],
  context: EmailContext,
): EmailContent {
  const amount = money(amountCents, currency);
  return {
    subject: `${tierName(plan.tier)} renews on ${day(renewsAt)}`,
    preview: asked(amountCents === 0 ? null : amount, charged),
    heading: 'Your subscription renews soon',
    blocks: [
      paragraph(
        charged || amountCents === 0 ? 'There is nothing you need to do.' : null,
        charged || amountCents === 0 ? null : 'You will get an invoice for it.',
        'To change or cancel your plan before it renews, use the customer portal.',
      ),
      facts(['Plan', planName(plan)], ['Renews on', day(renewsAt)], ['Amount', amount]),
      ...manageLink(context),
    ],
  };
}

function asked(amount: string | null, charged: boolean): string {
  if (amount === null) return 'There is nothing to pay, and nothing you need to do.';
  return charged
    ? `${amount} will be charged. There is nothing you need to do.`
    : `You will get an invoice of ${amount}.`;
}
