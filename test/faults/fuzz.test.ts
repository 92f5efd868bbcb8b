import { Ajv2020 } from 'ajv/dist/2020.js';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { buildOpenApi } from '../../server/api/openapi.ts';
import { startHttp, type TestHttp } from '../support/http.ts';
import { BODIES, CONTENT_TYPES, HEADERS, NASTY, RAW } from './support/hostile-requests.ts';
import { type RawAnswer, rawCall } from './support/raw-call.ts';

const SEED = Number(process.env['SEED'] ?? Math.floor(Math.random() * 2 ** 31));
/** Requests of each operation, and as many by tRPC and by raw bytes in all as of five operations. */
const CASES = Number(process.env['CASES'] ?? 60);
const AT_ONCE = 8;
const LONGEST_MS = 240_000;

type Media = { schema?: object; example?: unknown };
type Operation = {
  operationId: string;
  parameters?: { $ref?: string; name: string; in: string; example?: unknown }[];
  requestBody?: { content: Record<string, Media> };
  responses: Record<string, { content?: Record<string, Media> }>;
};
type Document = { paths: Record<string, Record<string, Operation>> };

// The document as whoever reads the file has it: what is not JSON is not in it.
const text = JSON.stringify(buildOpenApi());
const document: Document & Record<string, unknown> = JSON.parse(text);
const ajv = new Ajv2020({ strict: false, validateFormats: false, allErrors: true });
ajv.addSchema({ ...document, $id: 'document' });

let http: TestHttp;
let keys: { owner: string; reader: string };
let ids: Record<string, string>;
beforeAll(async () => {
  const plenty = { capacity: 1_000_000, refillPerSecond: 1_000 };
  http = await startHttp({
    logLevel: 'silent',
    limits: { global: { free: plenty }, minting: plenty, failures: plenty },
  });
  const owner = await http.openAccount();
  const reader = await http.openAccount(['read:billing']);
  keys = { owner: owner.key, reader: reader.key };
  const json = { url: 'https://example.com/hook', events: ['subscription.changed'] };
  const endpoint = (await (await http.call('/v1/webhooks', { key: owner.key, json })).json()) as {
    id: string;
  };
  const test = await http.call(`/v1/webhooks/${endpoint.id}/test`, { key: owner.key, json: {} });
  const delivery = (await test.json()) as { id: string };
  const doomed = (await (await http.call('/v1/webhooks', { key: owner.key, json })).json()) as { id: string };
  ids = { endpoint: endpoint.id, delivery: delivery.id, doomed: doomed.id };
  console.log(`fuzzing with SEED=${SEED} CASES=${CASES}`);
});
afterAll(() => http.close());

type Wire = { operation: Operation | null; path: string; method: string; bytes: string };

/** Requests of one operation: as documented, with one thing wrong, and with everything wrong. */
function requestsOf(path: string, method: string, operation: Operation): fc.Arbitrary<Wire> {
  const media = operation.requestBody?.content['application/json'];
  const valid = media?.example;
  const members = valid instanceof Object ? Object.keys(valid) : ['x'];
  const body = fc.oneof(
    fc.constant(valid === undefined ? '' : JSON.stringify(valid)),
    fc
      .tuple(fc.constantFrom(...members, 'extra', '__proto__', 'after', 'url'), NASTY)
      .map(([name, value]) => JSON.stringify({ ...Object(valid ?? {}), [name]: value })),
    BODIES,
  );
  const named = (operation.parameters ?? []).filter((parameter) => parameter.in === 'query');
  const asText = (value: unknown) => (typeof value === 'string' ? value : (JSON.stringify(value) ?? ''));
  const query = fc.array(
    fc.tuple(
      fc.constantFrom(...named.map(({ name }) => name), 'limit', 'x', 'toString'),
      fc.oneof(fc.constantFrom(...named.map(({ example }) => example), 1), NASTY),
    ),
    { maxLength: 3 },
  );
  const own =
    method === 'delete' ? 'doomed' : path.startsWith('/v1/webhook-deliveries/') ? 'delivery' : 'endpoint';
  const id = fc.oneof(fc.constant<unknown>(null), fc.constant<unknown>('example'), NASTY);
  const key = fc.constantFrom('owner', 'owner', 'owner', 'reader', 'none', 'wrong', 'twice');
  const encode = (value: unknown) => encodeURIComponent(asText(value).toWellFormed()) || '%20';
  const strange = fc.boolean();
  return fc
    .record({ body, query, id, key, strange, headers: HEADERS, type: CONTENT_TYPES, chunked: fc.boolean() })
    .map((given) => {
      const named =
        given.id === null
          ? ids[own]
          : given.id === 'example'
            ? `${own === 'delivery' ? 'wdl' : 'whk'}_01890a5d-ac96-774b-bcce-b302099a8057`
            : encode(given.id);
      const search = given.query.map(([name, value]) => `${name}=${encode(value)}`).join('&');
      const url = path.replace('{id}', String(named)) + (search && `?${search}`);
      const bytes = Buffer.from(given.body).toString('latin1');
      const auth = {
        owner: [keys.owner],
        reader: [keys.reader],
        none: [],
        wrong: ['ds_live_x'],
        twice: [keys.owner, 'x'],
      };
      const bearer = auth[given.key as keyof typeof auth].map((value) => `authorization: Bearer ${value}`);
      const length = given.chunked
        ? ['transfer-encoding: chunked']
        : method === 'get' && bytes === ''
          ? []
          : [`content-length: ${bytes.length}`];
      const chunk = bytes === '' ? '' : `${bytes.length.toString(16)}\r\n${bytes}\r\n`;
      const type = given.strange ? given.type : 'application/json';
      const lines = [
        `${method.toUpperCase()} ${url} HTTP/1.1`,
        'host: x',
        'connection: close',
        ...bearer,
        ...(type === '' ? [] : [`content-type: ${type}`]),
        ...(given.strange ? given.headers : []),
        ...length,
        '',
        given.chunked ? `${chunk}0\r\n\r\n` : bytes,
      ];
      return { operation, path, method, bytes: lines.join('\r\n') };
    });
}

const PROBLEM = { $ref: 'document#/components/schemas/Problem' };
const pointer = (part: string) =>
  part.replaceAll('~', '~0').replaceAll('/', '~1').replaceAll('{', '%7B').replaceAll('}', '%7D');

/** What is wrong with an answer; empty for one that is as the document says. */
function faultIn({ operation, path, method }: Wire, answer: RawAnswer): string {
  if (answer === null) return 'the connection was closed without an answer';
  const { status, type, body } = answer;
  if (status >= 500) return `it was answered ${status}: ${body}`;
  if (operation === null) return faultInProblem(answer);
  const declared = operation.responses[status];
  if (!declared) return `${status} is not declared: ${body}`;
  if (!declared.content) return body === '' ? '' : `a body where none is declared: ${body}`;
  const media = Object.keys(declared.content);
  const [name = ''] = media;
  if (type.split(';')[0] !== name) return `${status} came as ${type}, declared is ${media}`;
  const at = ['paths', path, method, 'responses', String(status), 'content', name, 'schema']
    .map(pointer)
    .join('/');
  return mismatch({ $ref: `document#/${at}` }, body);
}

function faultInProblem({ status, type, body }: NonNullable<RawAnswer>): string {
  if (status < 400) return '';
  if (type !== 'application/problem+json') return `${status} came as ${type}: ${body}`;
  const fault = mismatch(PROBLEM, body);
  return fault || (JSON.parse(body).status === status ? '' : `the problem says another status: ${body}`);
}

function mismatch(schema: { $ref: string }, body: string): string {
  const validate = ajv.getSchema(schema.$ref) ?? ajv.compile(schema);
  try {
    if (validate(JSON.parse(body))) return '';
  } catch (error) {
    return `${String(error)}: ${body}`;
  }
  return `${ajv.errorsText(validate.errors)}: ${body}`;
}

async function fuzz(requests: readonly Wire[], judge = faultIn): Promise<Map<number, number>> {
  const deadline = performance.now() + LONGEST_MS;
  const seen = new Map<number, number>();
  const left = [...requests];
  const faults: string[] = [];
  const work = async () => {
    for (let next = left.pop(); next && performance.now() < deadline; next = left.pop()) {
      const answer = await rawCall(http.url, next.bytes, {
        isAll: next.operation === null && next.path === '',
      });
      const fault = judge(next, answer);
      if (fault !== '') faults.push(`${fault}\n  to ${JSON.stringify(next.bytes.slice(0, 700))}`);
      if (answer) seen.set(answer.status, (seen.get(answer.status) ?? 0) + 1);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  expect(left, 'requests that there was no time for').toHaveLength(0);
  expect(faults.slice(0, 10).join('\n'), `SEED=${SEED} CASES=${CASES}`).toBe('');
  return seen;
}

const sample = <T>(arbitrary: fc.Arbitrary<T>, numRuns: number): T[] =>
  fc.sample(arbitrary, { seed: SEED, numRuns });

it('REST answers as the document says, whatever it is asked', { timeout: 300_000 }, async () => {
  const all = Object.entries(document.paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, operation]) => [path, method, operation] as const),
  );
  const seen = await fuzz(
    all.flatMap(([path, method, operation]) => sample(requestsOf(path, method, operation), CASES)),
  );
  // A fuzzer that is never let in, or never refused, tries nothing.
  for (const status of [200, 400, 401, 403, 404, 415])
    expect(seen.get(status) ?? 0, String(status)).toBeGreaterThan(0);
});

it('tRPC answers in its own shape, whatever it is asked', { timeout: 300_000 }, async () => {
  const names = fc.constantFrom(
    'billing.getState',
    'webhooks.create',
    'webhooks.list',
    'webhooks.replay',
    'events.list',
    'x',
    '%zz',
    '%ff',
    '__proto__',
    'billing',
  );
  const path = fc.array(names, { minLength: 1, maxLength: 3 }).map((parts) => parts.join(','));
  const requests = fc
    .record({
      path,
      batch: fc.boolean(),
      post: fc.boolean(),
      input: fc.oneof(NASTY, BODIES),
      headers: HEADERS,
    })
    .map(({ path, batch, post, input, headers }): Wire => {
      const json =
        typeof input === 'string' ? input : (JSON.stringify(batch ? { 0: input, 1: input } : input) ?? '');
      const body = post ? Buffer.from(json).toString('latin1') : '';
      const search = [batch ? 'batch=1' : '', post ? '' : `input=${encodeURIComponent(json.toWellFormed())}`]
        .filter(Boolean)
        .join('&');
      const lines = [
        `${post ? 'POST' : 'GET'} /trpc/${path}?${search} HTTP/1.1`,
        'host: x',
        'connection: close',
        `authorization: Bearer ${keys.owner}`,
        ...(post ? ['content-type: application/json', `content-length: ${body.length}`] : []),
        ...headers,
        '',
        body,
      ];
      return { operation: null, path, method: post ? 'post' : 'get', bytes: lines.join('\r\n') };
    });
  const judge = (_wire: Wire, answer: RawAnswer): string => {
    if (answer === null) return 'the connection was closed without an answer';
    const { status, type, body } = answer;
    if (status >= 500) return `it was answered ${status}: ${body}`;
    // What is refused before there is a request to speak of comes as a problem.
    if (type === 'application/problem+json')
      return [400, 408, 413, 417, 431].includes(status)
        ? faultInProblem(answer)
        : `${status} came as ${type}`;
    try {
      const parsed: unknown = JSON.parse(body);
      const answers = Array.isArray(parsed)
        ? parsed
        : type.startsWith('application/jsonl')
          ? Object.values(Object(parsed)).flat(2)
          : [parsed];
      for (const one of answers) {
        if (one?.error) {
          const fault = mismatch(PROBLEM, JSON.stringify(one.error.data?.problem));
          if (fault !== '') return fault;
          if (one.error.data.problem.status >= 500) return `a call was answered ${body}`;
        } else if (!(one instanceof Object && 'result' in one)) return `neither result nor error: ${body}`;
      }
      return '';
    } catch (error) {
      return `${String(error)}: ${status} ${type} ${body}`;
    }
  };
  const seen = await fuzz(sample(requests, CASES * 5), judge);
  expect(seen.get(200) ?? 0).toBeGreaterThan(0);
});

it('bytes that are hardly a request are refused with a problem, or the connection is closed', {
  timeout: 300_000,
}, async () => {
  const requests = sample(RAW, CASES * 5).map(
    (bytes): Wire => ({ operation: null, path: '', method: '', bytes }),
  );
  await fuzz(requests, (wire, answer) => {
    if (answer === null) return '';
    if (wire.bytes.includes('/trpc/') && answer.type.startsWith('application/json'))
      return answer.status < 500 ? '' : answer.body;
    return faultIn(wire, answer);
  });
  expect((await http.call('/healthz')).status).toBe(200);
});
