import type { Clock } from '../../shared/time.ts';
import type { Database } from '../database/connection.ts';
import type { Log } from '../database/log.ts';
import type { StripeGateway } from '../stripe/api/gateway.ts';
import type { Alarm } from '../stripe/deps.ts';
import type { RedirectPolicy } from './redirects.ts';

/** What the functions of billing work with. */
export type BillingDeps = {
  readonly db: Database;
  readonly gateway: StripeGateway;
  readonly clock: Clock;
  readonly redirects: RedirectPolicy;
  /** What the operator configured for callers who name no address, or null. */
  readonly defaults: {
    readonly checkoutSuccessUrl: string | null;
    readonly checkoutCancelUrl: string | null;
    readonly portalReturnUrl: string | null;
  };
  readonly log: Log;
  /** Counts what a person has to look at. */
  readonly onAlarm?: (alarm: Alarm) => void;
};

/** A call that may create something at Stripe. */
export type MintingCall = {
  readonly accountId: string;
  readonly keyId: string;
  readonly requestId: string;
  /** As the caller sent it, checked; null when there was none. */
  readonly idempotencyKey: string | null;
};

/** What a minting call answers; `replayed` when it is the stored answer to an earlier one. */
export type Minted<T> = { readonly value: T; readonly replayed: boolean };
