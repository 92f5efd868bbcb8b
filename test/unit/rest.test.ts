import {
  forEachOpenApiProcedure,
  getInputOutputParsers,
  instanceofZodTypeKind,
  type OpenApiProcedure,
  unwrapZodType,
} from 'trpc-to-openapi';
import { describe, expect, it } from 'vitest';
import type { z } from 'zod';
import type { Meta } from '../../server/api/init.ts';
import { appRouter } from '../../server/api/root.ts';
import { operations, queryReader } from '../../server/http/rest.ts';

/** What the library that writes the document reads off our routers. */
const documented: { name: string; procedure: OpenApiProcedure }[] = [];
forEachOpenApiProcedure<Meta>(appRouter._def.procedures, ({ path, procedure, meta: { openapi } }) => {
  documented.push({ name: `${path}: ${openapi.method} ${openapi.path}`, procedure });
});

it('serves every operation of the document, and no other', () => {
  expect(documented.length).toBeGreaterThan(10);
  const served = operations().map(
    ({ path, meta: { openapi } }) => `${path}: ${openapi.method} ${openapi.path}`,
  );
  expect(served).toEqual(documented.map(({ name }) => name));
});

describe.each(documented)('the query of $name', ({ procedure }) => {
  it('has numbers where the document has them, and text everywhere else', () => {
    const { inputParser } = getInputOutputParsers(procedure);
    const shape: Record<string, z.ZodType> = Reflect.get(unwrapZodType(inputParser, true), 'shape');
    const expected = Object.entries(shape).map(([name, schema]) => [
      name,
      instanceofZodTypeKind(unwrapZodType(schema, true), 'number') ? 17 : '17',
    ]);
    const asked = Object.fromEntries(Object.keys(shape).map((name) => [name, '17']));
    expect(Object.entries(queryReader(procedure)(asked) ?? {})).toEqual(expected);
  });
});
