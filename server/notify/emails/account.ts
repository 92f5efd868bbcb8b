import { type EmailContent, type EmailContext, facts, paragraph } from '../content.ts';
import type { EmailTemplates } from '../templates.ts';

/** Goes to the address before, whose owner may know nothing of it. */
export function emailChanged(
  { from, to, by }: EmailTemplates['email_changed'],
  _context: EmailContext,
): EmailContent {
  const who =
    by === 'portal' ? 'It was changed in the customer portal.' : 'It was changed by our staff at request.';
  return {
    subject: 'The e-mail address of your billing account has changed',
    preview: `Mails about it now go to ${to}.`,
    heading: 'Your e-mail address has changed',
    blocks: [
      paragraph(
        `${who} Mails about your billing account now go to the new address, and this is the last one to this address.`,
        'If you did not want this, tell our support at once.',
      ),
      facts(['Before', from], ['Now', to]),
    ],
  };
}
