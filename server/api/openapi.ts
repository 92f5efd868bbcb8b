import {
  forEachOpenApiProcedure,
  generateOpenApiDocument,
  getInputOutputParsers,
  type OpenAPIObject,
  type OpenApiProcedure,
} from 'trpc-to-openapi';
import { problemSchema } from '../../shared/errors.ts';
import { EVENT_TYPES, WEBHOOK_BODIES } from '../../shared/events.ts';
import type { Meta } from './init.ts';
import { errorResponses } from './openapi-errors.ts';
import { type ErrorResponse, exampleValue } from './openapi-example.ts';
import {
  HEADERS,
  IDEMPOTENCY_KEY,
  INFO,
  RATE_LIMIT_HEADERS,
  SECURITY,
  SERVERS,
  TAGS,
} from './openapi-parts.ts';
import { BODY_NAMES, webhookPaths } from './openapi-webhooks.ts';
import { appRouter } from './root.ts';

type Operation = NonNullable<NonNullable<OpenAPIObject['paths']>[string]['get']>;
type Components = NonNullable<OpenAPIObject['components']>;

/** The OpenAPI 3.1 document of the REST surface, generated from the routers. The same for the same sources. */
export function buildOpenApi(): OpenAPIObject {
  const document = generateOpenApiDocument(appRouter, {
    ...INFO,
    openApiVersion: '3.1.0',
    baseUrl: '/',
    securitySchemes: SECURITY,
    defs: {
      Problem: problemSchema,
      ...Object.fromEntries(EVENT_TYPES.map((type) => [BODY_NAMES[type], WEBHOOK_BODIES[type]])),
    },
  });
  const components: Components = {
    ...document.components,
    // The generator knows one shape of error only, and it is not ours.
    schemas: Object.fromEntries(
      Object.entries(document.components?.schemas ?? {}).filter(([name]) => !name.startsWith('error.')),
    ),
    headers: HEADERS,
    parameters: { IdempotencyKey: IDEMPOTENCY_KEY },
  };
  forEachOpenApiProcedure<Meta>(appRouter._def.procedures, ({ procedure, meta }) => {
    const item = document.paths?.[meta.openapi.path];
    const operation = item && operationOf(item, meta.openapi.method);
    if (operation) complete(operation, procedure, meta, components);
  });
  return {
    openapi: document.openapi,
    info: document.info,
    servers: SERVERS,
    tags: TAGS,
    paths: document.paths ?? {},
    webhooks: webhookPaths(components.schemas ?? {}),
    components,
  };
}

/** The document as the file in the repository holds it. */
export function serializeOpenApi(): string {
  return `${JSON.stringify(buildOpenApi(), null, 2)}\n`;
}

type PathItem = NonNullable<OpenAPIObject['paths']>[string];

function operationOf(item: PathItem, method: Meta['openapi']['method']): Operation | undefined {
  switch (method) {
    case 'GET':
      return item.get;
    case 'POST':
      return item.post;
    case 'PATCH':
      return item.patch;
    case 'PUT':
      return item.put;
    case 'DELETE':
      return item.delete;
  }
}

/** Adds what procedures cannot say: names, examples, headers, and every way to be refused. */
function complete(
  operation: Operation,
  procedure: OpenApiProcedure,
  meta: Meta,
  components: Components,
): void {
  const { operationId = '' } = operation;
  operation.description = `${meta.openapi.description}\n\nNeeds the scope \`${meta.scope}\`.`;
  nameInput(operation, procedure, components);
  showExamples(operation, components);
  leaveOutGuesses(operation);
  const isPost = meta.openapi.method === 'POST';
  if (isPost) {
    const key = { $ref: '#/components/parameters/IdempotencyKey' };
    operation.parameters = [...(operation.parameters ?? []), key];
  }

  // The generator says 200 for every success.
  const { status = 200 } = meta;
  const success = operation.responses?.['200'];
  operation.responses = {
    [status]: {
      ...(status === 204 ? { description: meta.openapi.successDescription } : success),
      headers: headers(['X-Request-Id', ...RATE_LIMIT_HEADERS, ...(isPost ? ['Idempotent-Replayed'] : [])]),
    },
  };
  for (const [refused, response] of errorResponses(meta, operationId)) {
    operation.responses[refused] = errorResponse(refused, response);
  }
}

/**
 * The reference fills in an example wherever there is one. What can be left out is left out: a made-up session or a
 * filter that finds nothing would let the first call of a reader fail.
 */
function leaveOutGuesses({ parameters = [] }: Operation): void {
  for (const parameter of parameters) {
    if (!('in' in parameter) || parameter.required) continue;
    for (const part of [parameter, parameter.schema]) {
      if (!part) continue;
      Reflect.deleteProperty(part, 'example');
      Reflect.deleteProperty(part, 'examples');
    }
  }
}

function nameInput(operation: Operation, procedure: OpenApiProcedure, { schemas = {} }: Components): void {
  const body = operation.requestBody;
  if (!body || !('content' in body)) return;
  const media = body.content['application/json'];
  if (isEmptyObject(media?.schema)) {
    // Everything the call takes stands in its path.
    delete operation.requestBody;
    return;
  }
  const id = getInputOutputParsers(procedure).inputParser.meta()?.id;
  if (!media?.schema || id === undefined) return;
  schemas[id] = media.schema;
  body.description = 'description' in media.schema ? (media.schema.description ?? '') : '';
  media.schema = { $ref: `#/components/schemas/${id}` };
}

function isEmptyObject(schema: object | undefined): boolean {
  return schema !== undefined && 'properties' in schema && Object.keys(schema.properties ?? {}).length === 0;
}

/** Schemas carry the examples; tools look for them beside the schema. */
function showExamples(operation: Operation, { schemas = {} }: Components): void {
  for (const parameter of operation.parameters ?? []) {
    if (!('schema' in parameter)) continue;
    const [first] = examplesOf(parameter.schema);
    if (parameter.schema && 'description' in parameter.schema) {
      parameter.description = parameter.schema.description ?? '';
    }
    if (first !== undefined) parameter.example = first;
  }
  const { requestBody, responses } = operation;
  for (const holder of [requestBody, responses?.['200']]) {
    if (!holder || !('content' in holder)) continue;
    const media: { schema?: object; example?: unknown } | undefined = holder.content?.['application/json'];
    if (!media?.schema) continue;
    const name = '$ref' in media.schema ? String(media.schema.$ref).split('/').at(-1) : undefined;
    const [first] = examplesOf(name === undefined ? media.schema : schemas[name]);
    if (first !== undefined) media.example = first;
  }
}

function examplesOf(schema: object | undefined): unknown[] {
  return schema && 'examples' in schema && Array.isArray(schema.examples) ? schema.examples : [];
}

function errorResponse(status: number, { description, examples, retryAfter }: ErrorResponse) {
  return {
    description,
    headers: headers([
      'X-Request-Id',
      ...(status === 401 ? ['WWW-Authenticate'] : []),
      ...(retryAfter ? ['Retry-After'] : []),
      ...(status === 429 ? RATE_LIMIT_HEADERS : []),
    ]),
    content: {
      'application/problem+json': {
        schema: { $ref: '#/components/schemas/Problem' },
        examples: Object.fromEntries(
          examples.map((example) => [
            example.name,
            { summary: example.summary, value: exampleValue(example) },
          ]),
        ),
      },
    },
  };
}

function headers(names: readonly string[]) {
  return Object.fromEntries(names.map((name) => [name, { $ref: `#/components/headers/${name}` }]));
}
