import { type EmailContent, type EmailContext, facts, manageLink, paragraph } from '../content.ts';
import { moment } from '../format.ts';
import type { EmailTemplates } from '../templates.ts';

export function webhookEndpointPaused(
  { host, reason, pausedAt }: EmailTemplates['webhook_endpoint_paused'],
  context: EmailContext,
): EmailContent {
  const why =
    reason === 'gone'
      ? 'It answered 410 Gone, which asks us to stop.'
      : 'Every try failed for five days in a row.';
  return {
    subject: `Your webhook endpoint at ${host} is paused`,
    preview: why,
    heading: 'A webhook endpoint is paused',
    blocks: [
      paragraph(
        `We no longer send events to your endpoint at ${host}.`,
        why,
        'Events are kept, and are sent as soon as you set the endpoint to active again.',
      ),
      facts(['Endpoint', host], ['Paused', moment(pausedAt)]),
      ...manageLink(context),
    ],
  };
}
