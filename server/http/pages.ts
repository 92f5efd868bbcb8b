import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { ProblemError } from '../../shared/errors.ts';
import { ASK_AGAIN, type Asset, makeAsset, sendAsset } from './assets.ts';
import { createGate } from './gate.ts';
import { createReaders } from './readers.ts';
import { makeReference, type Reference } from './reference.ts';

const HOST = /^(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::\d{1,5})?$/i;

/** The reference page runs its script from here and may reach nobody else, whatever the script would like. */
const REFERENCE_POLICY = [
  "default-src 'none'",
  "script-src 'self' 'unsafe-inline'",
  "style-src 'self' 'unsafe-inline'",
  "img-src 'self' data: blob:",
  "font-src 'self' data:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

const PAGE_POLICY =
  "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

export type PageParts = {
  readonly mostInFlight: number;
  /** Whether readiness and metrics are at this address. */
  readonly withOperations: boolean;
};

/**
 * Mounts `/` (what there is), `/openapi.json` and `/docs`, the browsable reference. All of it is the same for
 * everybody, so it is made at the first call, kept in memory and compressed, and browsers keep what they have.
 */
export function mountPages(app: FastifyInstance, { mostInFlight, withOperations }: PageParts): void {
  const gate = createGate(mostInFlight);
  const readers = createReaders(mostInFlight);
  let written: Promise<Asset> | undefined;
  const document = (): Promise<Asset> => {
    written ??= makeDocument();
    return written;
  };
  let made: Promise<Reference> | undefined;
  const reference = (): Promise<Reference> => {
    made ??= makeReference();
    return made;
  };
  const send = (asset: (request: FastifyRequest) => Asset | Promise<Asset>) => {
    const answer = gate(async (request, reply) => {
      await sendAsset(request, reply, await asset(request));
      await readers.untilSent(reply);
      return reply;
    });
    return async (request: FastifyRequest, reply: FastifyReply) => {
      await readers.makeRoom();
      return await answer(request, reply);
    };
  };

  app.get('/', async (request, reply) =>
    reply
      .headers({ 'content-security-policy': PAGE_POLICY, 'content-type': 'text/html; charset=utf-8' })
      .send(indexPage(`${request.protocol}://${checkedHost(request)}`, withOperations)),
  );

  // Browsers ask for one unprompted, and show an error where there is none.
  app.get('/favicon.ico', async (_request, reply) =>
    reply.code(204).header('cache-control', 'public, max-age=86400').send(),
  );

  app.get('/openapi.json', send(document));

  app.register(async (docs) => {
    docs.addHook('onRequest', async (_request, reply) => {
      reply.header('content-security-policy', REFERENCE_POLICY);
    });
    docs.get('/docs', async (_request, reply) => reply.redirect('/docs/', 301));
    docs.get(
      '/docs/',
      send(async () => (await reference()).page),
    );
    docs.get(
      '/docs/:script',
      send(async ({ url }) => {
        const { scriptName, script } = await reference();
        if (url.split('?')[0] === `/docs/${scriptName}`) return script;
        throw new ProblemError('not-found', 'There is nothing at this path.');
      }),
    );
  });
}

/** Loaded at the first call, as the reference is: no start waits for it. */
async function makeDocument(): Promise<Asset> {
  const { serializeOpenApi } = await import('../api/openapi.ts');
  return makeAsset(serializeOpenApi(), {
    type: 'application/json; charset=utf-8',
    cacheControl: ASK_AGAIN,
  });
}

function checkedHost({ host }: FastifyRequest): string {
  if (!HOST.test(host)) throw new ProblemError('bad-request', 'The Host header is not a host.');
  return host;
}

const indexPage = (origin: string, withOperations: boolean) => `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Driftstack Billing</title>
<style>
:root { color-scheme: light dark; font: 16px/1.6 system-ui, sans-serif; }
body { max-width: 40rem; margin: 3rem auto; padding: 0 1.25rem; }
h1 { font-size: 1.5rem; }
code { font: 0.95em ui-monospace, monospace; overflow-wrap: anywhere; }
li { margin: 0.4rem 0; }
</style>
</head>
<body>
<h1>Driftstack Billing</h1>
<p>This is the billing API of Driftstack. Call it with your API key:</p>
<p><code>curl -H "Authorization: Bearer ds_live_…" ${origin}/v1/billing</code></p>
<ul>
<li><a href="/docs/">API reference</a></li>
<li><a href="/openapi.json">OpenAPI document</a></li>
<li><a href="/healthz">Health</a>${withOperations ? ', <a href="/readyz">readiness</a> and <a href="/metrics">metrics</a>' : ''}</li>
</ul>
</body>
</html>
`;
