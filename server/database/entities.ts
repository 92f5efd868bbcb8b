import { Account, AccountSync, ApiKey, FormerStripeCustomer, IdempotencyKey } from './entities/account.ts';
import { CheckoutAttempt, Price, Subscription, TrialPack, TrialPackPrice } from './entities/billing.ts';
import { CreditEntry, CreditReservation } from './entities/credit.ts';
import { AuditEntry, Email, Pace, RecurringTask, StripeEvent } from './entities/journal.ts';
import { BillingEvent, WebhookDelivery, WebhookEndpoint } from './entities/webhooks.ts';

/** Every table of the service. */
export const ENTITIES = [
  Account,
  AccountSync,
  FormerStripeCustomer,
  ApiKey,
  IdempotencyKey,
  Subscription,
  Price,
  TrialPackPrice,
  CheckoutAttempt,
  TrialPack,
  CreditEntry,
  CreditReservation,
  StripeEvent,
  AuditEntry,
  Email,
  Pace,
  RecurringTask,
  BillingEvent,
  WebhookEndpoint,
  WebhookDelivery,
];
