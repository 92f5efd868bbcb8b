import { type Crew, startCrew } from '../database/crew.ts';
import { renew } from '../database/lease.ts';
import type { Log } from '../database/log.ts';
import { type Batch, claimBatch } from './due-mails.ts';
import { type SendDeps, sendBatch } from './send.ts';

/** One batch is written while another is under way; the pace lets no more through. */
const PLACES = 2;

/** Sends what is due whenever it is woken, a hundred mails at a time, and one mail at once. */
export function startMailer(deps: SendDeps & { log: Log }): Crew {
  const { db, log } = deps;
  const crew = startCrew<Batch>({
    name: 'mails',
    places: PLACES,
    log,
    claim: (free) => claimBatches(deps, free),
    async work(batch, signal) {
      await sendBatch(deps, batch, signal);
      // What was divided is due at once.
      crew.wake();
    },
    async renew(batches) {
      const held = batches.flatMap((batch) =>
        batch.mails.map(({ id }) => ({ lease: batch.lease, key: id, batch })),
      );
      const lost = await renew(db, 'email', held);
      return [...new Set(lost.map(({ batch }) => batch))];
    },
  });
  return crew;
}

/** Leases up to so many batches that are due. */
async function claimBatches({ db }: Pick<SendDeps, 'db'>, most: number): Promise<readonly Batch[]> {
  const batches: Batch[] = [];
  while (batches.length < most) {
    const batch = await claimBatch(db);
    if (batch === null) break;
    batches.push(batch);
  }
  return batches;
}
