import { z } from 'zod';

/** What every list takes. Descriptions stand inside `optional`, where query parameters are made from. */
export const pageFields = {
  limit: z
    .int()
    .min(1)
    .max(100)
    .default(50)
    .meta({ description: 'How many to return, 1 to 100.', examples: [50] }),
  cursor: z
    .string()
    .min(1)
    .max(512)
    .meta({ description: 'The `next_cursor` of the page before. Its text means nothing to you.' })
    .optional(),
};

/** Where the next page of a list begins. */
export const nextCursor = z
  .string()
  .nullable()
  .meta({ description: 'Pass this as `cursor` for the next page; null on the last one.', examples: [null] });
