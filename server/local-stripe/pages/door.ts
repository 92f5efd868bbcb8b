import { readFileSync } from 'node:fs';
import type { FastifyInstance } from 'fastify';
import { StripeError } from '../errors.ts';
import { html } from './html.ts';
import { problemPage } from './layout.ts';

const ASSETS = {
  'style.css': 'text/css',
  'form.js': 'text/javascript',
  'checkout.js': 'text/javascript',
  'live.js': 'text/javascript',
  'icon.svg': 'image/svg+xml',
} as const;

/** Serves the pages' own files under `/_pages/`: read once, revalidated by the browser. */
export async function assets(app: FastifyInstance): Promise<void> {
  for (const [name, type] of Object.entries(ASSETS)) {
    const file = readFileSync(new URL(`./assets/${name}`, import.meta.url));
    app.get(`/_pages/${name}`, (_request, reply) =>
      reply
        .headers({ 'cache-control': 'no-cache', 'x-content-type-options': 'nosniff' })
        .type(`${type}; charset=utf-8`)
        .send(file),
    );
  }
}

/**
 * What every page plugin starts with: plain forms as bodies, strict response headers, and refusals as readable
 * pages. `ownPage` may give a refusal a page of its own.
 */
export function pageDoor(
  app: FastifyInstance,
  ownPage: (error: StripeError) => string | null = () => null,
): void {
  app.removeAllContentTypeParsers();
  app.addContentTypeParser(
    'application/x-www-form-urlencoded',
    { parseAs: 'string', bodyLimit: 64 * 1024 },
    (_request, body, done) => done(null, Object.fromEntries(new URLSearchParams(String(body)))),
  );

  app.addHook('onRoute', (route) => {
    route.config = { ...route.config, page: true };
  });
  app.addHook('onRequest', async (_request, reply) => {
    reply.headers(PAGE_HEADERS);
  });

  app.setErrorHandler((error, _request, reply) => {
    reply.type('text/html; charset=utf-8');
    if (error instanceof StripeError)
      return reply
        .code(error.fields.status)
        .send(ownPage(error) ?? problemPage(titleOf(error), error.message, consoleLink));
    if (error instanceof Error && 'statusCode' in error && Number(error.statusCode) < 500)
      return reply
        .code(Number(error.statusCode))
        .send(problemPage('That did not work', 'The form could not be read.'));
    reply.log.error(error);
    return reply
      .code(500)
      .send(
        problemPage('Something broke here', 'This is a defect of the local Stripe. Its log has the details.'),
      );
  });
}

const consoleLink = html`<p><a href="/console">Open the console</a></p>`;

const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "connect-src 'self'",
  "frame-src 'self'",
  "form-action 'self'",
  "base-uri 'none'",
  "frame-ancestors 'none'",
].join('; ');

export const PAGE_HEADERS = {
  'content-security-policy': POLICY,
  'content-type': 'text/html; charset=utf-8',
  'cache-control': 'no-store',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'cross-origin-opener-policy': 'same-origin-allow-popups',
} as const;

const titleOf = (error: StripeError): string =>
  error.fields.code === 'resource_missing' ? 'Nothing here' : 'That did not work';

/** A text field of a posted form; '' when it is missing or was sent some other way. */
export function field(body: unknown, name: string): string {
  if (typeof body !== 'object' || body === null) return '';
  const value: unknown = Reflect.get(body, name);
  return typeof value === 'string' ? value.trim() : '';
}
