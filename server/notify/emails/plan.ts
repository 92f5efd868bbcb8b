import { type EmailContent, type EmailContext, facts, manageLink, paragraph } from '../content.ts';
import { day, planName, tierName } from '../format.ts';
import type { EmailTemplates } from '../templates.ts';

export function planChanged(
  { from, to, changedAt }: EmailTemplates['plan_changed'],
  context: EmailContext,
): EmailContent {
  return {
    subject:
      from.tier === to.tier ? 'Your billing period has changed' : `Your plan is now ${tierName(to.tier)}`,
    preview: `Before: ${planName(from)}. Now: ${planName(to)}.`,
    heading: 'Your plan has changed',
    blocks: [
      paragraph('The new plan is in effect.'),
      facts(['Before', planName(from)], ['Now', planName(to)], ['Changed on', day(changedAt)]),
      ...manageLink(context),
    ],
  };
}

export function planChangeScheduled(
  { from, to, changesAt }: EmailTemplates['plan_change_scheduled'],
  context: EmailContext,
): EmailContent {
  return {
    subject: `Your plan changes on ${day(changesAt)}`,
    preview: `Until then you stay on ${tierName(from.tier)}.`,
    heading: 'Your plan will change',
    blocks: [
      paragraph(
        `You stay on ${planName(from)}, until the end of the period you have paid for. Until then you can still call the change off in the customer portal.`,
      ),
      facts(['Now', planName(from)], ['Next', planName(to)], ['Changes on', day(changesAt)]),
      ...manageLink(context),
    ],
  };
}

export function planChangeUnscheduled(
  { plan }: EmailTemplates['plan_change_unscheduled'],
  context: EmailContext,
): EmailContent {
  return {
    subject: `You stay on ${tierName(plan.tier)}`,
    preview: 'The plan change was called off.',
    heading: 'Your plan stays as it is',
    blocks: [
      paragraph('The plan change that was booked has been called off.'),
      facts(['Plan', planName(plan)]),
      ...manageLink(context),
    ],
  };
}
