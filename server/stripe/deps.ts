import type { Clock } from '../../shared/time.ts';
import type { Database } from '../database/connection.ts';
import type { Log } from '../database/log.ts';
import type { StripeGateway } from './gateway.ts';
import type { Alarm } from './record-fact.ts';

/** What synchronising works with. */
export type SyncDeps = {
  db: Database;
  gateway: StripeGateway;
  clock: Clock;
  log: Log;
  /** Counts what a person has to look at. */
  onAlarm?: (alarm: Alarm) => void;
};
