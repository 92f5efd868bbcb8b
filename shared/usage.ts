import { z } from 'zod';
import { nextCursor, pageFields } from './paging.ts';
import { wireTimeSchema } from './time.ts';

/** What an entry of the credit ledger is about. */
export const CREDIT_ENTRY_KINDS = ['grant', 'use', 'expire', 'revoke', 'reinstate'] as const;

export const creditEntrySchema = z
  .strictObject({
    id: z.string().meta({
      description: 'The id of the entry: `cre_` and a uuid.',
      examples: ['cre_01890a5d-ac96-774b-bcce-b302099a8057'],
    }),
    kind: z.enum(CREDIT_ENTRY_KINDS).meta({
      description:
        '`grant` when the pack was paid for, `use` by a session, `expire` at its end, `revoke` when money ' +
        'went back, `reinstate` when it returned.',
      examples: ['use'],
    }),
    seconds: z.int().meta({
      description: 'Concurrent-seconds that came, negative where they went. 200 of them are one US cent.',
      examples: [-600],
    }),
    balance_seconds: z
      .int()
      .min(0)
      .meta({ description: 'The balance after this entry, in concurrent-seconds.', examples: [59_200] }),
    session_id: z
      .string()
      .nullable()
      .meta({ description: 'The session that used it; null unless `use`.', examples: ['ses_7f3a'] }),
    used_at: wireTimeSchema
      .nullable()
      .meta({ description: 'When it was used; null unless `use`.', examples: ['2026-05-01T09:30:00Z'] }),
    timestamp: wireTimeSchema.meta({
      description: 'When the entry was made.',
      examples: ['2026-05-01T09:30:05Z'],
    }),
  })
  .meta({
    id: 'CreditEntry',
    description: 'One change of the trial-pack credit. It is never changed itself.',
  });
export type CreditEntry = z.infer<typeof creditEntrySchema>;

/** The input of `billing.listTrialPackUsage`. */
export const usageListInput = z
  .strictObject(pageFields)
  .prefault({})
  .meta({ description: 'Which part of the entries to read.' });
export type UsageListInput = z.infer<typeof usageListInput>;

/** The output of `billing.listTrialPackUsage`. */
export const usageListResult = z
  .strictObject({
    data: z.array(creditEntrySchema).meta({ description: 'The entries, newest first.' }),
    next_cursor: nextCursor,
  })
  .meta({
    id: 'TrialPackUsagePage',
    description: 'One page of the trial-pack credit, newest first; it stays stable while entries are added.',
    examples: [
      {
        data: [
          {
            id: 'cre_01890a5d-ac96-774b-bcce-b302099a8057',
            kind: 'use',
            seconds: -600,
            balance_seconds: 59_200,
            session_id: 'ses_7f3a',
            used_at: '2026-05-01T09:30:00Z',
            timestamp: '2026-05-01T09:30:05Z',
          },
        ],
        next_cursor: null,
      },
    ],
  });
export type UsageListResult = z.infer<typeof usageListResult>;
