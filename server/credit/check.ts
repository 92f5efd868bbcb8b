import type { Clock } from '../../shared/time.ts';
import type { Database } from '../database/connection.ts';
import type { Log } from '../database/log.ts';
import { saveTurn, takeTurn } from '../database/recurring.ts';
import { type LedgerFault, verifyLedger } from './ledger.ts';

const EVERY_MS = 3_600_000;
const LEASE_MS = 600_000;

/**
 * Proves once an hour, in one process of all, that the ledger of every account adds up, and tells the log of each
 * that does not. Null where it is not due or somebody else's turn.
 */
export async function checkLedger({
  db,
  clock,
  log,
}: {
  db: Database;
  clock: Clock;
  log: Log;
}): Promise<LedgerFault[] | null> {
  const turn = await takeTurn(db, 'ledger-check', { now: clock.now(), leaseMs: LEASE_MS });
  if (!turn) return null;
  const faults = await verifyLedger(db);
  for (const fault of faults) log.error(fault, 'the credit ledger of an account does not add up');
  const next = new Date(clock.now().getTime() + EVERY_MS);
  await saveTurn(db, turn, { faults: faults.length }, next);
  return faults;
}
