import {
  forEachOpenApiProcedure,
  generateOpenApiDocument,
  getInputOutputParsers,
  type OpenAPIObject,
  type OpenApiProcedure,
} from 'trpc-to-openapi';
import { problemSchema } from '../../shared/errors.ts';
import type { Meta } from './init.ts';
import { type ErrorResponse, errorResponses, exampleValue } from './openapi-errors.ts';
import {
  HEADERS,
  IDEMPOTENCY_KEY,
  INFO,
  RATE_LIMIT_HEADERS,
  SECURITY,
  SERVERS,
  TAGS,
} from './openapi-parts.ts';
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
    defs: { Problem: problemSchema },
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
    const operation = meta.openapi.method === 'GET' ? item?.get : item?.post;
    if (operation) complete(operation, procedure, meta, components);
  });
  return {
    openapi: document.openapi,
    info: document.info,
    servers: SERVERS,
    tags: TAGS,
    paths: document.paths ?? {},
    components,
  };
}

/** The document as the file in the repository holds it. */
export function serializeOpenApi(): string {
  return `${JSON.stringify(buildOpenApi(), null, 2)}\n`;
}

/** Adds what procedures cannot say: names, examples, headers, and every way to be refused. */
function complete(
  operation: Operation,
  procedure: OpenApiProcedure,
  meta: Meta,
  components: Components,
): void {
  const minting = meta.bucket === 'minting';
  const { operationId = '' } = operation;
  operation.description = `${meta.openapi.description}\n\nNeeds the scope \`${meta.scope}\`.`;
  nameInput(operation, procedure, components);
  showExamples(operation, components);
  if (minting) operation.parameters = [{ $ref: '#/components/parameters/IdempotencyKey' }];

  const success = operation.responses?.['200'];
  operation.responses = {
    '200': {
      ...success,
      headers: headers(['X-Request-Id', ...RATE_LIMIT_HEADERS, ...(minting ? ['Idempotent-Replayed'] : [])]),
    },
  };
  for (const [status, response] of errorResponses(meta, operationId)) {
    operation.responses[status] = errorResponse(status, response);
  }
}

function nameInput(operation: Operation, procedure: OpenApiProcedure, { schemas = {} }: Components): void {
  const body = operation.requestBody;
  if (!body || !('content' in body)) return;
  const media = body.content['application/json'];
  const id = getInputOutputParsers(procedure).inputParser.meta()?.id;
  if (!media?.schema || id === undefined) return;
  schemas[id] = media.schema;
  body.description = 'description' in media.schema ? (media.schema.description ?? '') : '';
  media.schema = { $ref: `#/components/schemas/${id}` };
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
