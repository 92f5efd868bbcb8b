import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { byteaArray } from '../../server/database/bytea-array.ts';
import { connectDatabase, type Database } from '../../server/database/connection.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';

let database: TestDatabase;
let db: Database;
beforeAll(async () => {
  database = await createTestDatabase();
  db = await connectDatabase({ url: database.url, poolMax: 1, applicationName: 'bytea-array' });
});
afterAll(async () => {
  await db?.close();
  await database?.drop();
});

it('is read by PostgreSQL as the same bytes in the same order', async () => {
  const bytes = fc.uint8Array({ maxLength: 3_000 }).map((value) => Buffer.from(value));
  await fc.assert(
    fc.asyncProperty(fc.array(bytes, { minLength: 1, maxLength: 20 }), async (values) => {
      const { rows } = await db.pool.query<{ raw: Buffer; at: number }>(
        'select raw, at::int from unnest($1::bytea[]) with ordinality as v (raw, at)',
        [byteaArray(values)],
      );
      expect(rows.map(({ at }) => at)).toEqual(values.map((_, at) => at + 1));
      expect(rows.map(({ raw }) => raw.toString('hex'))).toEqual(
        values.map((value) => value.toString('hex')),
      );
    }),
    { numRuns: 50 },
  );
});
