import { readFileSync } from 'node:fs';
import { Validator } from '@seriousme/openapi-schema-validator';
import { expect, it } from 'vitest';
import { z } from 'zod';
import { buildOpenApi, serializeOpenApi } from '../../server/api/openapi.ts';
import { billingStateSchema } from '../../shared/billing.ts';
import { problemSchema } from '../../shared/errors.ts';
import { EVENT_TYPES } from '../../shared/events.ts';

const PATHS: Readonly<Record<string, readonly string[]>> = {
  '/v1/billing': ['get'],
  '/v1/billing/checkout-session': ['post'],
  '/v1/billing/trial-pack': ['post'],
  '/v1/billing/trial-pack/usage': ['get'],
  '/v1/billing/portal-session': ['post'],
  '/v1/billing/events': ['get'],
  '/v1/account/audit-log': ['get'],
  '/v1/webhooks': ['get', 'post'],
  '/v1/webhooks/{id}': ['delete', 'get', 'patch'],
  '/v1/webhooks/{id}/test': ['post'],
  '/v1/webhooks/{id}/rotate-secret': ['post'],
  '/v1/webhooks/{id}/replay': ['post'],
  '/v1/webhooks/{id}/deliveries': ['get'],
  '/v1/webhook-deliveries/{id}/replay': ['post'],
};
const OPERATIONS = Object.entries(PATHS).flatMap(([path, methods]) =>
  methods.map((method) => [path, method] as const),
);

const reference = z.looseObject({ $ref: z.string() });
const errorContent = z.object({
  'application/problem+json': z.object({
    schema: z.object({ $ref: z.literal('#/components/schemas/Problem') }),
    examples: z.record(z.string(), z.object({ summary: z.string().min(1), value: problemSchema })),
  }),
});
const operation = z.looseObject({
  operationId: z.string().min(1),
  summary: z.string().min(1),
  description: z.string().min(20),
  tags: z.array(z.string()).length(1),
  security: z.array(z.object({ apiKey: z.array(z.never()) })).length(1),
  parameters: z.array(z.union([reference, z.looseObject({ description: z.string().min(1) })])).optional(),
  requestBody: z
    .object({
      required: z.boolean(),
      description: z.string().min(1),
      content: z.object({ 'application/json': z.object({ schema: reference, example: z.unknown() }) }),
    })
    .optional(),
  responses: z.record(
    z.string(),
    z.looseObject({
      description: z.string().min(1),
      headers: z.record(z.string(), reference),
      content: z.unknown().optional(),
    }),
  ),
});

const operationOf = (path: string, method: string) => {
  const item: object = buildOpenApi().paths?.[path] ?? {};
  return operation.parse(Reflect.get(item, method));
};

it('is a valid OpenAPI 3.1 document', async () => {
  const validator = new Validator();
  expect(await validator.validate(JSON.parse(serializeOpenApi()))).toEqual({ valid: true });
  expect(validator.version).toBe('3.1');
});

it('is the same however often it is generated, and the file in the repository is the same', () => {
  expect(serializeOpenApi()).toBe(serializeOpenApi());
  expect(readFileSync(new URL('../../openapi.json', import.meta.url), 'utf8')).toBe(serializeOpenApi());
});

it('has exactly the documented paths', () => {
  const paths = buildOpenApi().paths ?? {};
  expect(
    Object.fromEntries(Object.entries(paths).map(([path, item]) => [path, Object.keys(item).sort()])),
  ).toEqual(PATHS);
});

it.each(OPERATIONS)('describes %s %s whole, every refusal with a problem as example', (path, method) => {
  const { responses } = operationOf(path, method);
  for (const [status, response] of Object.entries(responses)) {
    expect(Object.keys(response.headers)).toContain('X-Request-Id');
    if (status.startsWith('2')) continue;
    const { examples } = errorContent.parse(response.content)['application/problem+json'];
    expect(Object.keys(examples)).not.toEqual([]);
    for (const { value } of Object.values(examples)) expect(value.status).toBe(Number(status));
  }
  expect(Object.keys(responses)).toEqual(expect.arrayContaining(['400', '401', '403', '429', '500', '503']));
  expect(Object.keys(responses).filter((status) => status.startsWith('2'))).toHaveLength(1);
});

it('describes every event that webhooks carry', () => {
  const { webhooks = {} } = buildOpenApi();
  expect(Object.keys(webhooks)).toEqual([...EVENT_TYPES]);
});

it('refers only to what it has', () => {
  const text = serializeOpenApi();
  const document: unknown = JSON.parse(text);
  const pointers = new Set([...text.matchAll(/"\$ref": "#\/([^"]+)"/g)].map(([, pointer = '']) => pointer));
  expect(pointers.size).toBeGreaterThan(15);
  for (const pointer of pointers) {
    const found = pointer
      .split('/')
      .reduce<unknown>(
        (node, name) => (node instanceof Object ? Reflect.get(node, name) : undefined),
        document,
      );
    expect(found, pointer).toBeDefined();
  }
});

it('has examples that its own schemas accept', () => {
  const content = operationOf('/v1/billing', 'get').responses['200']?.content;
  const { example } = z.object({ 'application/json': z.object({ example: z.unknown() }) }).parse(content)[
    'application/json'
  ];
  expect(billingStateSchema.parse(example)).toEqual(example);
});

it('names every schema of a body', () => {
  const names = Object.keys(buildOpenApi().components?.schemas ?? {});
  expect(names).toEqual(
    expect.arrayContaining([
      'BillingState',
      'CheckoutSessionInput',
      'TrialPackInput',
      'PortalSessionInput',
      'CheckoutSession',
      'PortalSession',
      'AuditLogPage',
      'AuditEntry',
      'Problem',
    ]),
  );
});

it('fills in nothing that a call can do without', () => {
  const parameter = z.looseObject({ name: z.string(), required: z.boolean().optional() });
  const { paths = {}, components } = buildOpenApi();
  const found = [
    ...OPERATIONS.flatMap(([path, method]) => Reflect.get(paths[path] ?? {}, method).parameters ?? []),
    ...Object.values(components?.parameters ?? {}),
  ].flatMap((one) => parameter.safeParse(one).data ?? []);
  const optional = found.filter(({ required }) => required !== true);
  const names = optional.map(({ name }) => name);
  for (const name of ['checkout_session_id', 'action', 'since', 'until', 'cursor', 'Idempotency-Key'])
    expect(names).toContain(name);
  for (const one of optional) expect(JSON.stringify(one), one.name).not.toMatch(/"examples?":/);
});

it('declares on every operation what any request can be refused with', () => {
  for (const [path, item] of Object.entries(buildOpenApi().paths ?? {})) {
    for (const [method, operation] of Object.entries(item ?? {})) {
      const declared = Object.keys(Object(operation).responses);
      const any = ['400', '401', '403', '408', '415', '417', '429', '431', '500', '503'];
      const wanted = method === 'get' ? any : [...any, '413'];
      expect(declared, `${method} ${path}`).toEqual(expect.arrayContaining(wanted));
    }
  }
});

it('asks nobody who receives webhooks for our keys, says who answers for it, and gives no optional field null', () => {
  const { webhooks = {}, info } = buildOpenApi();
  for (const hook of Object.values(webhooks)) {
    const post = Object(hook).post;
    expect(post.security).toEqual([]);
    expect(Object.keys(post.responses).some((status) => status.startsWith('4'))).toBe(true);
  }
  expect(info.contact).toMatchObject({ name: expect.any(String), email: expect.stringContaining('@') });
  // Generators make whatever has a default a field that has to be there.
  expect(serializeOpenApi()).not.toMatch(/"default": null/);
});
