import type { FastifyInstance } from 'fastify';
import { pageDoor } from './door.ts';
import { type Html, html } from './html.ts';
import { page } from './layout.ts';

/** Fastify plugin: stand-ins for the customer's own application, where Checkout and portal lead back to. */
export async function demoPages(app: FastifyInstance): Promise<void> {
  pageDoor(app);

  app.get<{ Querystring: Record<string, unknown> }>('/app/success', (request, reply) => {
    const id = request.query['session_id'];
    return reply.send(
      landing('Thank you', [
        html`<p>Checkout is done and led back here. In your application this is your own page.</p>`,
        typeof id === 'string' && id !== ''
          ? html`<dl class="facts"><dt>Session</dt><dd><code id="session">${id}</code></dd></dl>
<p>Ask the API right away what became of it: <code>GET /v1/billing?checkout_session_id=${id}</code></p>`
          : html`<p class="muted">The success URL had no <code>{CHECKOUT_SESSION_ID}</code> in it.</p>`,
      ]),
    );
  });

  app.get('/app/cancel', (_request, reply) =>
    reply.send(
      landing('Nothing was bought', [
        html`<p>The person went back without paying. In your application this is your own page.</p>`,
      ]),
    ),
  );

  app.get('/app/account', (_request, reply) =>
    reply.send(
      landing('Your account', [
        html`<p>The billing portal leads back here. In your application this is your own page.</p>`,
      ]),
    ),
  );
}

function landing(title: string, content: readonly Html[]): string {
  return page({
    title,
    part: 'app',
    body: html`<section class="card narrow"><p class="tag">Stand-in for your application</p><h1>${title}</h1>${content}
<p class="row"><a class="button" href="/console">Open the console</a><a class="button" href="/mailbox">Open the mailbox</a></p></section>`,
  });
}
