import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { deliverWebhooks } from '../deliveries.ts';
import { openWorld } from '../open-world.ts';
import { bool, int, timestamp } from '../params.ts';
import type { Route } from '../route.ts';
import { routes } from '../routes.ts';
import { localStripeWithClient } from './support/api.ts';

const ROUTES = everyRoute();
const named = ROUTES.map((route) => [`${route.method} ${route.path}`, route] as const);

describe('every route', () => {
  it('is one of about a hundred', () => {
    expect(ROUTES.length).toBeGreaterThan(90);
  });

  it.each(named)('%s refuses a parameter it does not know, and names it', async (_, route) => {
    const call = await caller();
    const { status, error } = await call(route, { ...sample(route), surprise: '1' });
    expect({ status, ...error }).toMatchObject({
      status: 400,
      type: 'invalid_request_error',
      code: 'parameter_unknown',
      param: 'surprise',
      message: 'Received unknown parameter: surprise',
    });
  });

  it.each(named.filter(([, { path }]) => path.includes(':id')))(
    '%s answers 404 for an id that does not exist',
    async (_, route) => {
      const call = await caller();
      const { status, error } = await call(route, sample(route));
      expect({ status, ...error }).toMatchObject({ status: 404, code: 'resource_missing' });
      expect(error['message']).toContain('nothing_1');
    },
  );

  it.each(named.filter(([, route]) => requiredOf(route.params).length > 0))(
    '%s says which required parameter is missing',
    async (_, route) => {
      const call = await caller();
      for (const name of requiredOf(route.params)) {
        const { [name]: _left, ...rest } = sample(route);
        const { status, error } = await call(route, rest);
        expect({ status, ...error }).toMatchObject({
          status: 400,
          code: 'parameter_missing',
          param: name,
          message: `Missing required param: ${name}.`,
        });
      }
    },
  );

  it.each(named.filter(([, route]) => scalarsOf(route.params).length > 0))(
    '%s refuses words where numbers, times, true or false belong',
    async (_, route) => {
      const call = await caller();
      for (const path of scalarsOf(route.params)) {
        const { status, error } = await call(route, formWith(route.params, path, 'soon'));
        expect({ path, status, ...error }).toMatchObject({
          status: 400,
          type: 'invalid_request_error',
          param: bracketed(path),
        });
        expect(error['message']).toMatch(/^Invalid /);
      }
    },
  );

  it('answers any bytes with JSON that is an object or has an error, and never with 500', async () => {
    const { localStripe, stripe } = await localStripeWithClient();
    const piece = fc.oneof(
      fc.constantFrom(
        '[',
        ']',
        '=',
        '&',
        '%',
        '%00',
        '%zz',
        '%C3%28',
        '+',
        'null',
        '-1',
        '1e99',
        '__proto__',
      ),
      fc.constantFrom(
        'items',
        'metadata',
        'expand',
        'limit',
        'customer',
        'amount',
        'constructor',
        '[0]',
        '[]',
      ),
      fc.string({ maxLength: 8 }).map(encodeURIComponent),
    );
    const body = fc.array(piece, { maxLength: 12 }).map((pieces) => pieces.join(''));
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...ROUTES), body, async ({ method, path }, text) => {
        const url = `${localStripe.url}${path.replace(':id', 'cus_%E2%9C%93')}`;
        const answer = await fetch(method === 'POST' ? url : `${url}?${text}`, {
          method,
          headers: {
            authorization: 'Bearer sk_test_123',
            'content-type': 'application/x-www-form-urlencoded',
          },
          ...(method === 'POST' ? { body: text } : {}),
        });
        const json: unknown = await answer.json();
        expect(json).toBeTypeOf('object');
        expect(answer.status).toBeLessThan(500);
        if (answer.status !== 200) expect(json).toHaveProperty('error.message');
      }),
      { numRuns: 400 },
    );
    expect((await stripe.customers.create()).object).toBe('customer');
  });
});

function everyRoute(): readonly Route[] {
  const world = openWorld({ path: ':memory:', clock: Date.now });
  const deliveries = deliverWebhooks(world, { clock: Date.now, onFailure: () => undefined });
  const all = routes(deliveries, { send: () => undefined, count: () => 0, close: () => undefined });
  deliveries.close();
  world.close();
  return all;
}

type Form = { readonly [name: string]: string | Form };
type Step = string;

async function caller() {
  const { localStripe } = await localStripeWithClient();
  return async ({ method, path }: Route, form: string | Form) => {
    const text = typeof form === 'string' ? form : encoded(form).toString();
    const url = `${localStripe.url}${path.replace(':id', 'nothing_1')}`;
    const answer = await fetch(method === 'GET' ? `${url}?${text}` : url, {
      method,
      headers: { authorization: 'Bearer sk_test_123', 'content-type': 'application/x-www-form-urlencoded' },
      ...(method === 'GET' ? {} : { body: text }),
    });
    const { error } = z.looseObject({ error: z.record(z.string(), z.unknown()) }).parse(await answer.json());
    return { status: answer.status, error };
  };
}

function encoded(form: Form, prefix: readonly string[] = []): URLSearchParams {
  const all = new URLSearchParams();
  for (const [name, value] of Object.entries(form)) {
    const path = [...prefix, name];
    if (typeof value === 'string') all.append(bracketed(path), value);
    else for (const [key, inner] of encoded(value, path)) all.append(key, inner);
  }
  return all;
}

function bracketed(path: readonly Step[]): string {
  return path.map((step, depth) => (depth === 0 ? step : `[${step}]`)).join('');
}

/** The least a route takes: its required parameters, each with a value its schema likes. */
function sample({ params }: Route): Form {
  const least = requiredOf(params).length === 0 ? {} : leastOf(params);
  return typeof least === 'object' ? least : {};
}

const WORDS = [
  '1',
  'x',
  'true',
  'false',
  'usd',
  'https://app.test/',
  'card',
  'payment',
  'month',
  'charge',
  'invoice.paid',
];

function leastOf(schema: z.core.$ZodType): string | Form {
  const least = leastIfAny(schema);
  if (least === null) throw new Error('no sample value fits');
  return least;
}

function leastIfAny(schema: z.core.$ZodType): string | Form | null {
  const inner = bare(schema);
  if (inner instanceof z.ZodObject) return leastHash(inner);
  if (inner instanceof z.ZodArray) return { 0: leastOf(inner.element) };
  if (inner instanceof z.ZodEnum) return String(inner.options[0]);
  return WORDS.find((one) => z.safeParse(schema, one).success) ?? null;
}

/** The required members; where none is, the first optional one that takes a value: empty hashes cannot be written. */
function leastHash(schema: z.ZodObject): Form {
  const required = requiredOf(schema);
  if (required.length > 0)
    return Object.fromEntries(required.map((name) => [name, leastOf(schema.shape[name])]));
  for (const [name, member] of Object.entries(schema.shape)) {
    const least = leastIfAny(member);
    if (least !== null) return { [name]: least };
  }
  return {};
}

function requiredOf(schema: z.core.$ZodType): string[] {
  const inner = bare(schema);
  if (!(inner instanceof z.ZodObject)) return [];
  return Object.keys(inner.shape).filter((name) => !z.safeParse(inner.shape[name], undefined).success);
}

/** Where a schema has numbers, times or booleans, in hashes and lists too. */
function scalarsOf(schema: z.core.$ZodType): Step[][] {
  if (isScalar(schema)) return [[]];
  const inner = bare(schema);
  if (inner instanceof z.ZodArray) return scalarsOf(inner.element).map((path) => ['0', ...path]);
  if (!(inner instanceof z.ZodObject)) return [];
  return Object.entries(inner.shape).flatMap(([name, member]) =>
    scalarsOf(member as z.core.$ZodType).map((path) => [name, ...path]),
  );
}

function isScalar(schema: z.core.$ZodType): boolean {
  if (schema === int || schema === bool || schema === timestamp) return true;
  if (schema instanceof z.ZodOptional || schema instanceof z.ZodNullable) return isScalar(schema.unwrap());
  // `intBetween` and `emptyable` are pipes around these.
  return schema instanceof z.ZodPipe && (isScalar(schema.in) || isScalar(schema.out));
}

function bare(schema: z.core.$ZodType): z.core.$ZodType {
  if (schema instanceof z.ZodOptional || schema instanceof z.ZodNullable) return bare(schema.unwrap());
  if (!(schema instanceof z.ZodPipe)) return schema;
  return bare(schema.in instanceof z.ZodTransform ? schema.out : schema.in);
}

/** A form with the value at that place, and around it whatever else its hashes require. */
function formWith(schema: z.core.$ZodType, [step, ...rest]: readonly Step[], value: string): string | Form {
  const inner = bare(schema);
  if (step === undefined) return value;
  if (inner instanceof z.ZodArray) return { [step]: formWith(inner.element, rest, value) };
  if (!(inner instanceof z.ZodObject)) throw new Error(`${step} is in no hash`);
  const around = Object.fromEntries(requiredOf(inner).map((name) => [name, leastOf(inner.shape[name])]));
  return { ...around, [step]: formWith(inner.shape[step], rest, value) };
}
