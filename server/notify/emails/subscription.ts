import { type EmailContent, type EmailContext, facts, linkTo, manageLink, paragraph } from '../content.ts';
import { day, moment, money, planName, tierName } from '../format.ts';
import type { EmailTemplates } from '../templates.ts';
import { BY_METHOD, nextFact, nextSentence } from './next.ts';

export function subscriptionStarted(
  { plan, next }: EmailTemplates['subscription_started'],
  context: EmailContext,
): EmailContent {
  const name = tierName(plan.tier);
  return {
    subject: `Your ${name} subscription has started`,
    preview: nextSentence(next) ?? `Your account is now on ${name}.`,
    heading: 'Your subscription has started',
    blocks: [
      paragraph(`Thank you. Your account is now on ${name}.`, nextSentence(next)),
      facts(['Plan', planName(plan)], nextFact(next)),
      ...manageLink(context),
    ],
  };
}

export function cancellationScheduled(
  { plan, endsAt, before, until, undoable }: EmailTemplates['cancellation_scheduled'],
  context: EmailContext,
): EmailContent {
  const name = tierName(plan.tier);
  const moved = before !== null;
  return {
    subject: `Your subscription ${moved ? 'now ends' : 'ends'} on ${day(endsAt)}`,
    preview: moved
      ? `Until now its end was set to ${day(before)}.`
      : `Your ${name} subscription is set to end.`,
    heading: moved ? 'The end of your subscription has moved' : 'Your subscription is set to end',
    blocks: [
      paragraph(
        `Your ${name} subscription is set to end on ${day(endsAt)}.`,
        until && UNTIL_THE_END[until],
        undoable ? 'Before that, you can undo the cancellation in the customer portal.' : null,
      ),
      facts(['Plan', planName(plan)], ['Ends', moment(endsAt)], before && ['Before', moment(before)]),
      ...manageLink(context),
    ],
  };
}

const UNTIL_THE_END = {
  works: 'It will not renew, and works as before until then.',
  renews: 'It renews as before until then.',
} as const;

export function cancellationUndone(
  { plan, next }: EmailTemplates['cancellation_undone'],
  context: EmailContext,
): EmailContent {
  return {
    subject: 'Your subscription is no longer set to end',
    preview: `The cancellation was undone. ${nextSentence(next) ?? ''}`.trim(),
    heading: 'The cancellation was undone',
    blocks: [
      paragraph(`Your ${tierName(plan.tier)} subscription is no longer set to end.`, nextSentence(next)),
      facts(['Plan', planName(plan)], nextFact(next)),
      ...manageLink(context),
    ],
  };
}

export function subscriptionEnded(
  { plan, endedAt }: EmailTemplates['subscription_ended'],
  context: EmailContext,
): EmailContent {
  const name = tierName(plan.tier);
  return {
    subject: `Your ${name} subscription has ended`,
    preview: 'You can subscribe again at any time.',
    heading: 'Your subscription has ended',
    blocks: [
      paragraph(`Your ${name} subscription has ended. You can subscribe again at any time.`),
      facts(['Plan', planName(plan)], endedAt && ['Ended', moment(endedAt)]),
      ...manageLink(context),
    ],
  };
}

export function subscriptionPaused(
  { plan, reason, since, payUrl }: EmailTemplates['subscription_paused'],
  context: EmailContext,
): EmailContent {
  const name = tierName(plan.tier);
  const pay = linkTo(context, 'Pay the open invoice', payUrl);
  return {
    subject: `Your ${name} subscription is on hold`,
    preview: WHY_ON_HOLD[reason],
    heading: 'Your subscription is on hold',
    blocks: [
      paragraph(WHY_ON_HOLD[reason], `${name} cannot be used for now.`, WHAT_TO_DO[reason]),
      facts(['Plan', planName(plan)], since && ['On hold since', moment(since)]),
      ...(pay.length > 0 ? pay : manageLink(context)),
    ],
  };
}

type PauseReason = EmailTemplates['subscription_paused']['reason'];

const WHY_ON_HOLD = {
  unpaid: 'A payment for your subscription was not made.',
  payment_failed: 'A payment for your subscription failed.',
  trial_ended: 'Your trial has ended without a payment method.',
  requested: 'Your subscription was paused on request.',
  paused: 'Your subscription was paused.',
  unknown: 'Your subscription was paused.',
} satisfies Record<PauseReason, string>;

const WHAT_TO_DO = {
  unpaid: 'The customer portal shows what is open.',
  payment_failed: 'Check the payment method in the customer portal.',
  trial_ended: 'Add a payment method in the customer portal to go on.',
  requested: null,
  paused: null,
  unknown: null,
} satisfies Record<PauseReason, string | null>;

export function subscriptionResumed(
  { plan, next }: EmailTemplates['subscription_resumed'],
  context: EmailContext,
): EmailContent {
  return {
    subject: `Your ${tierName(plan.tier)} subscription works again`,
    preview: 'It is no longer on hold.',
    heading: 'Your subscription works again',
    blocks: [
      paragraph('Your subscription is no longer on hold.', nextSentence(next)),
      facts(['Plan', planName(plan)], nextFact(next)),
      ...manageLink(context),
    ],
  };
}

export function trialEnding(
  { plan, trialEndsAt, next }: EmailTemplates['trial_ending'],
  context: EmailContext,
): EmailContent {
  const name = tierName(plan.tier);
  const then = whatFollowsTheTrial(next);
  return {
    subject: `Your ${name} trial ends on ${day(trialEndsAt)}`,
    preview: then ?? `The trial of your ${name} subscription ends soon.`,
    heading: 'Your trial ends soon',
    blocks: [
      paragraph(`The trial of your ${name} subscription ends on ${day(trialEndsAt)}.`, then),
      facts(
        ['Plan', planName(plan)],
        ['Trial ends', moment(trialEndsAt)],
        next?.kind === 'changes' || next?.kind === 'ends' ? nextFact(next) : null,
      ),
      ...manageLink(context),
    ],
  };
}

function whatFollowsTheTrial(next: EmailTemplates['trial_ending']['next']): string | null {
  switch (next?.kind) {
    case 'bills':
      return 'Billing begins then, unless you cancel before in the customer portal.';
    case 'bills_if_it_can':
      return BY_METHOD[next.otherwise];
    case 'ends':
      return `The subscription is set to end on ${day(next.at)}.`;
    case 'changes':
      return `The subscription changes to ${planName(next.to)} on ${day(next.at)}.`;
    default:
      return null;
  }
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
        charged || amountCents === 0 ? null : 'You will get an invoice for it.',
        'To change or cancel your plan before it renews, use the customer portal.',
      ),
      facts(['Plan', planName(plan)], ['Renews on', day(renewsAt)], ['Amount', amount]),
      ...manageLink(context),
    ],
  };
}

function asked(amount: string | null, charged: boolean): string {
  if (amount === null) return 'There is nothing to pay.';
  return charged ? `${amount} will be charged.` : `You will get an invoice of ${amount}.`;
}
