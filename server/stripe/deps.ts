import type { Clock } from '../../shared/time.ts';
import type { Database } from '../database/connection.ts';
import type { Log } from '../database/log.ts';
import type { StripeGateway } from './api/gateway.ts';

/** Something that a person has to look at; each is logged and counted once the transaction has committed. */
export type Alarm = {
  kind:
    | 'unknown_price'
    | 'unknown_status'
    | 'duplicate_subscription'
    | 'duplicate_left'
    | 'duplicate_unrefunded'
    | 'duplicate_trial_pack'
    /** Somebody paid, or was given back, for something that we do not understand. */
    | 'unrecognised_payment'
    /** A customer wrote an address into the portal that we cannot take. */
    | 'address_refused'
    | 'refund_failed'
    | 'invoice_finalization_failed'
    | 'contradiction'
    /** What Stripe signs is refused for its time, because a clock is off. */
    | 'clock_off'
    /** Stripe does not do what we ask, and will not before an operator has mended something. */
    | 'stripe_refused';
  details: Readonly<Record<string, unknown>>;
};

/** What synchronising works with. */
export type SyncDeps = {
  db: Database;
  gateway: StripeGateway;
  clock: Clock;
  log: Log;
  /** Counts what a person has to look at. */
  onAlarm?: (alarm: Alarm) => void;
};
