import { z } from 'zod';
import type { AuditAction } from '../../../../shared/audit.ts';
import type { Tx } from '../../../database/connection.ts';
import { AuditEntry } from '../../../database/entities/journal.ts';
import type { Effect } from '../effects.ts';

/**
 * What has been written down about an account, and what the pass is going to write.
 *
 * One invoice can have sold a second subscription and second trial packs, on one charge. Each of the two counts what
 * was given back of the charge, by whomever, towards what is owed for it. What the other one has counted already is
 * not there a second time.
 */
export type Books = {
  readonly tx: Tx;
  readonly account: { readonly id: string };
  readonly effects: readonly Effect[];
};

/** How much of what was given back of an invoice's money has been counted for second trial packs. */
export const countedForPacks = (books: Books, invoiceId: string): Promise<number> =>
  counted(books, ['trial_pack.duplicate_refunded', 'payment.unrecognised'], (entry) =>
    entry.target === invoiceId ? entry.refunded_cents : 0,
  );

/** How much of it has been counted for a second subscription. */
export const countedForSubscription = (books: Books, invoiceId: string): Promise<number> =>
  counted(
    books,
    ['subscription.duplicate_canceled', 'subscription.duplicate_refunded'],
    ({ invoice, refunded_cents, refunded_by_invoice }) =>
      invoice === invoiceId ? refunded_cents : (refunded_by_invoice[invoiceId] ?? 0),
  );

/** One without the member counted nothing: a line that we do not understand was for neither of the two. */
const countedSchema = z.object({
  reason: z.string().optional(),
  refunded_cents: z.int().default(0),
  invoice: z.string().optional(),
  refunded_by_invoice: z.record(z.string(), z.int()).default({}),
});

type Counted = z.infer<typeof countedSchema> & { readonly target: string | null };

async function counted(
  { tx, account, effects }: Books,
  actions: readonly AuditAction[],
  centsOf: (entry: Counted) => number,
): Promise<number> {
  const written = await tx.find(AuditEntry, { accountId: account.id, action: { $in: [...actions] } });
  const entries = new Map(
    written.map(({ dedupeKey, targetResourceId: target, payload }) => [dedupeKey, { target, payload }]),
  );
  for (const effect of effects)
    if (effect.kind === 'audit' && actions.includes(effect.action)) entries.set(effect.key, effect);
  let cents = 0;
  for (const { target = null, payload } of entries.values()) {
    const entry = countedSchema.parse(payload);
    if (entry.reason === undefined || entry.reason === SECOND_PACK) cents += centsOf({ ...entry, target });
  }
  return cents;
}

/** Why a payment is left to a person that was for a second trial pack. */
export const SECOND_PACK = 'second_trial_pack';
