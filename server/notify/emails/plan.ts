import { type EmailContent, type EmailContext, facts, manageLink, paragraph } from '../content.ts';
import { day, moment, planName, tierName } from '../format.ts';
import type { EmailTemplates, Plan } from '../templates.ts';

export function planChanged(data: EmailTemplates['plan_changed'], context: EmailContext): EmailContent {
  const { from, to, changedAt, inEffect, endedAt } = data;
  if (endedAt !== null) return oneOfTwoEnded({ from, to, endedAt }, context);
  return {
    subject:
      from.tier === to.tier ? 'Your billing period has changed' : `Your plan is now ${tierName(to.tier)}`,
    preview: `Before: ${planName(from)}. Now: ${planName(to)}.`,
    heading: 'Your plan has changed',
    blocks: [
      ...(inEffect ? [paragraph('The new plan is in effect.')] : []),
      facts(['Before', planName(from)], ['Now', planName(to)], changedAt && ['Changed on', day(changedAt)]),
      ...manageLink(context),
    ],
  };
}

/** Nothing was changed: the account had two subscriptions, and one of them is left. */
function oneOfTwoEnded(
  { from, to, endedAt }: { from: Plan; to: Plan; endedAt: Date },
  context: EmailContext,
): EmailContent {
  const [ended, left] = [tierName(from.tier), tierName(to.tier)];
  return {
    subject: `One of your two subscriptions has ended, ${left} is left`,
    preview: `Ended: ${planName(from)}. Left: ${planName(to)}.`,
    heading: 'One of your two subscriptions has ended',
    blocks: [
      paragraph(
        `Your account had two subscriptions at the same time. The one to ${ended} has ended, and the one to ${left} is the one you have now.`,
      ),
      facts(['Ended', planName(from)], ['Ended on', moment(endedAt)], ['Left', planName(to)]),
      ...manageLink(context),
    ],
  };
}

export function planChangeScheduled(
  { from, to, changesAt, replaced }: EmailTemplates['plan_change_scheduled'],
  context: EmailContext,
): EmailContent {
  const what = from.tier === to.tier ? 'billing period' : 'plan';
  return {
    subject: `Your ${what} changes on ${day(changesAt)}`,
    preview: `From ${planName(from)}, to ${planName(to)}.`,
    heading: `Your ${what} will change`,
    blocks: [
      paragraph(
        `A change of your plan is booked for ${day(changesAt)}.`,
        replaced && 'It takes the place of the one that was booked before.',
        'The customer portal shows what is booked.',
      ),
      facts(
        ['Now', planName(from)],
        ['Next', planName(to)],
        ['Changes on', day(changesAt)],
        replaced && ['Booked before', `${planName(replaced.to)}, from ${day(replaced.changesAt)}`],
      ),
      ...manageLink(context),
    ],
  };
}

export function planChangeUnscheduled(
  { plan, calledOff }: EmailTemplates['plan_change_unscheduled'],
  context: EmailContext,
): EmailContent {
  return {
    subject: 'The booked change of your plan was called off',
    preview: `Your plan is ${planName(plan)}.`,
    heading: 'The booked change was called off',
    blocks: [
      paragraph('The change of your plan that was booked will not take place.'),
      facts(['Plan', planName(plan)], calledOff && ['Called off', planName(calledOff)]),
      ...manageLink(context),
    ],
  };
}
