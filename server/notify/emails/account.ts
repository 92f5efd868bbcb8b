import { type EmailContent, type EmailContext, facts, paragraph } from '../content.ts';
import type { EmailTemplates } from '../templates.ts';

/** Goes to the address before, whose owner may know nothing of it. */
export function emailChanged(
  { from, to, by }: EmailTemplates['email_changed'],
  _context: EmailContext,
): EmailContent {
  return {
    subject: 'The e-mail address of your billing account has changed',
    preview: `New mails about it go to ${to}.`,
    heading: 'Your e-mail address has changed',
    blocks: [
      paragraph(
        `${WHERE[by]} New mails about your billing account go to the new address.`,
        'If you did not want this, tell our support at once.',
      ),
      facts(['Before', from], ['Now', to]),
    ],
  };
}

const WHERE = {
  stripe: 'It was changed in the billing details that Stripe keeps, as the customer portal does.',
  staff: 'It was changed by our staff.',
} satisfies Record<EmailTemplates['email_changed']['by'], string>;
