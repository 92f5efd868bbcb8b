import { render } from '@react-email/render';
import { createElement } from 'react';
import type { EmailContent, EmailContext } from './content.ts';
import { emailChanged } from './emails/account.ts';
import { creditExpiring, creditNearlyUsed, creditUsedUp } from './emails/credit.ts';
import { paymentActionRequired, paymentFailed, paymentReceipt } from './emails/payment.ts';
import { planChanged, planChangeScheduled, planChangeUnscheduled } from './emails/plan.ts';
import { duplicatePurchaseRefunded } from './emails/second-purchase.ts';
import {
  cancellationScheduled,
  cancellationUndone,
  renewalUpcoming,
  subscriptionEnded,
  subscriptionPaused,
  subscriptionResumed,
  subscriptionStarted,
  trialEnding,
} from './emails/subscription.ts';
import {
  trialPackExpired,
  trialPackPaymentFailed,
  trialPackReady,
  trialPackRefunded,
  trialPackReinstated,
  trialPackSuspended,
} from './emails/trial-pack.ts';
import { webhookEndpointPaused } from './emails/webhooks.ts';
import { oneLine } from './format.ts';
import { Layout } from './layout.ts';
import { EMAIL_DATA, type EmailTemplate, type EmailTemplates } from './templates.ts';
import { plainText } from './text.ts';

export type RenderedEmail = { subject: string; html: string; text: string };

/**
 * Writes a mail from what its row holds. The same row always gives the same bytes, so that a provider can
 * tell a repetition. Throws if the data is not what the template needs.
 */
export async function renderEmail(
  template: string,
  data: unknown,
  context: EmailContext,
): Promise<RenderedEmail> {
  if (!isTemplate(template)) throw new Error(`There is no mail named ${template}`);
  const content = write(template, data, context);
  return {
    subject: oneLine(content.subject),
    html: await render(createElement(Layout, { content })),
    text: plainText(content),
  };
}

function isTemplate(name: string): name is EmailTemplate {
  return Object.hasOwn(WRITERS, name);
}

function write<T extends EmailTemplate>(template: T, data: unknown, context: EmailContext): EmailContent {
  const writer: Writer<T> = WRITERS[template];
  // The schema of a template gives the data of that template; TypeScript does not follow that through a table.
  return writer(EMAIL_DATA[template].parse(data) as EmailTemplates[T], context);
}

type Writer<T extends EmailTemplate> = (data: EmailTemplates[T], context: EmailContext) => EmailContent;

const WRITERS: { readonly [T in EmailTemplate]: Writer<T> } = {
  subscription_started: subscriptionStarted,
  plan_changed: planChanged,
  plan_change_scheduled: planChangeScheduled,
  plan_change_unscheduled: planChangeUnscheduled,
  cancellation_scheduled: cancellationScheduled,
  cancellation_undone: cancellationUndone,
  subscription_paused: subscriptionPaused,
  subscription_resumed: subscriptionResumed,
  subscription_ended: subscriptionEnded,
  trial_ending: trialEnding,
  renewal_upcoming: renewalUpcoming,
  payment_failed: paymentFailed,
  payment_action_required: paymentActionRequired,
  payment_receipt: paymentReceipt,
  trial_pack_ready: trialPackReady,
  trial_pack_payment_failed: trialPackPaymentFailed,
  trial_pack_suspended: trialPackSuspended,
  trial_pack_reinstated: trialPackReinstated,
  trial_pack_refunded: trialPackRefunded,
  trial_pack_expired: trialPackExpired,
  credit_nearly_used: creditNearlyUsed,
  credit_used_up: creditUsedUp,
  credit_expiring: creditExpiring,
  duplicate_purchase_refunded: duplicatePurchaseRefunded,
  email_changed: emailChanged,
  webhook_endpoint_paused: webhookEndpointPaused,
};
