import { Account, ApiKey, IdempotencyKey } from './entities/account.ts';
import { CheckoutAttempt, CreditEntry, Price, Subscription, TrialPack } from './entities/billing.ts';
import { AuditEntry, Email, StripeEvent } from './entities/journal.ts';

/** Every table of the service. */
export const ENTITIES = [
  Account,
  ApiKey,
  IdempotencyKey,
  Subscription,
  Price,
  CheckoutAttempt,
  TrialPack,
  CreditEntry,
  StripeEvent,
  AuditEntry,
  Email,
];
