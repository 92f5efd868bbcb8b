import reference from '@scalar/fastify-api-reference';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { ProblemError } from '../../shared/errors.ts';
import { serializeOpenApi } from '../api/openapi.ts';

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

/** Mounts `/` (what there is), `/openapi.json` and `/docs`, the browsable reference. */
export function mountPages(app: FastifyInstance): void {
  const document = serializeOpenApi();

  app.get('/', async (request, reply) =>
    reply
      .headers({ 'content-security-policy': PAGE_POLICY, 'content-type': 'text/html; charset=utf-8' })
      .send(indexPage(`${request.protocol}://${checkedHost(request)}`)),
  );

  // Browsers ask for one unprompted, and show an error where there is none.
  app.get('/favicon.ico', async (_request, reply) => reply.code(204).send());

  app.get('/openapi.json', async (_request, reply) =>
    reply.header('content-type', 'application/json; charset=utf-8').send(document),
  );

  app.register(async (docs) => {
    docs.addHook('onRequest', async (request, reply) => {
      // The page's redirect is built from this header by a parser that throws.
      checkedHost(request);
      reply.header('content-security-policy', REFERENCE_POLICY);
    });
    await docs.register(reference, {
      routePrefix: '/docs',
      configuration: {
        url: '/openapi.json',
        pageTitle: 'Driftstack Billing API',
        withDefaultFonts: false,
        telemetry: false,
        hideClientButton: true,
        showDeveloperTools: 'never',
        authentication: { preferredSecurityScheme: 'apiKey' },
        agent: { disabled: true },
        mcp: { disabled: true },
      },
    });
  });
}

function checkedHost({ host }: FastifyRequest): string {
  if (!HOST.test(host)) throw new ProblemError('bad-request', 'The Host header is not a host.');
  return host;
}

const indexPage = (origin: string) => `<!doctype html>
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
<li><a href="/healthz">Health</a>, <a href="/readyz">readiness</a> and <a href="/metrics">metrics</a></li>
</ul>
</body>
</html>
`;
