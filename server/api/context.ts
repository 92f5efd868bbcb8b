import type { AuditListInput, AuditListResult } from '../../shared/audit.ts';
import type {
  BillingState,
  CheckoutSessionInput,
  CheckoutSessionResult,
  GetStateInput,
  PortalSessionInput,
  PortalSessionResult,
  TrialPackInput,
} from '../../shared/billing.ts';
import type { UsageListInput, UsageListResult } from '../../shared/usage.ts';
import type { Caller } from '../billing/caller.ts';
import type { Minted, MintingCall } from '../billing/deps.ts';
import type { Asked } from '../billing/once.ts';
import type { WebhookUseCases } from '../webhooks/use-cases.ts';

/** The kinds of calls, each with a token bucket of its own for every account. */
export type RateBucket = 'global' | 'minting';

/** What the procedures call. Bound to their parts where the app is put together. */
export type UseCases = {
  readState(caller: Caller, input: GetStateInput): Promise<BillingState>;
  startCheckout(call: MintingCall, input: CheckoutSessionInput): Promise<Minted<CheckoutSessionResult>>;
  startTrialPack(call: MintingCall, input: TrialPackInput): Promise<Minted<CheckoutSessionResult>>;
  startPortal(call: MintingCall, input: PortalSessionInput): Promise<Minted<PortalSessionResult>>;
  listTrialPackUsage(accountId: string, input: UsageListInput): Promise<UsageListResult>;
  listAudit(accountId: string, input: AuditListInput): Promise<AuditListResult>;
  webhooks: WebhookUseCases;
  /** Does the work of a POST once under its Idempotency-Key; `read` turns the answer that was kept into one again. */
  once<T extends object>(
    call: MintingCall,
    asked: Asked,
    work: (webhooks: WebhookUseCases) => Promise<T>,
    read: (answer: unknown) => T,
  ): Promise<Minted<T>>;
};

/** One request, however it came in. */
export type Context = {
  readonly requestId: string;
  /** All values of the Idempotency-Key header. */
  readonly idempotencyKeys: readonly string[];
  readonly useCases: UseCases;
  /** Looks the key up once for each request, however many calls it holds. Throws the kinds of 401. */
  authenticate(): Promise<Caller>;
  /** Takes a token from the account's bucket for each call; throws `rate-limited` when there is none. */
  admit(caller: Caller, bucket: RateBucket): void;
  /** Tells the caller that the answer is one already given. */
  markReplayed(): void;
};
