import { type EmailContent, type EmailContext, facts, manageLink, paragraph } from '../content.ts';
import { credit, moment } from '../format.ts';
import type { EmailTemplates } from '../templates.ts';

export function creditNearlyUsed(
  { creditCents, expiresAt }: EmailTemplates['credit_nearly_used'],
  context: EmailContext,
): EmailContent {
  return {
    subject: `Your trial credit is nearly used: ${credit(creditCents)} left`,
    preview: 'Sessions stop when it is used up, unless you subscribe.',
    heading: 'Your trial credit is nearly used',
    blocks: [
      paragraph('When it is used up, no further session time can be spent without a subscription.'),
      facts(['Credit left', credit(creditCents)], ['Spend until', moment(expiresAt)]),
      ...manageLink(context),
    ],
  };
}

export function creditUsedUp(_data: EmailTemplates['credit_used_up'], context: EmailContext): EmailContent {
  return {
    subject: 'Your trial credit is used up',
    preview: 'Nothing more will be charged. To go on, choose a subscription.',
    heading: 'Your trial credit is used up',
    blocks: [
      paragraph(
        'You have spent all the credit of your trial pack. Nothing more will be charged for it. To go on, choose a subscription.',
      ),
      ...manageLink(context),
    ],
  };
}

export function creditExpiring(
  { creditCents, expiresAt }: EmailTemplates['credit_expiring'],
  context: EmailContext,
): EmailContent {
  return {
    subject: `Your trial credit expires soon: ${credit(creditCents)} left`,
    preview: `It can be spent until ${moment(expiresAt)}.`,
    heading: 'Your trial credit expires soon',
    blocks: [
      paragraph('What is not spent by then expires. Nothing renews by itself.'),
      facts(['Credit left', credit(creditCents)], ['Spend until', moment(expiresAt)]),
      ...manageLink(context),
    ],
  };
}
