import { createHash } from 'node:crypto';
import type { FastifyInstance, FastifyReply } from 'fastify';
import {
  clearMails,
  failNextMails,
  findMail,
  listMails,
  MAIL_FAULTS,
  type Mail,
  type MailFault,
} from '../mails.ts';
import type { World } from '../world.ts';
import { field, pageDoor } from './door.ts';
import { type Html, html } from './html.ts';
import { page, problemPage } from './layout.ts';
import { mailSource } from './mail-source.ts';
import { moment } from './words.ts';

const VIEWS = ['html', 'text', 'source'] as const;
type View = (typeof VIEWS)[number];
const VIEW_NAMES: Record<View, string> = { html: 'As read', text: 'Text', source: 'Source' };

/** Fastify plugin: the mailbox as pages, live, with each mail as HTML, text and source. */
export async function mailboxPages(app: FastifyInstance, { world }: { world: World }): Promise<void> {
  pageDoor(app);

  app.get<{ Querystring: Record<string, unknown> }>('/mailbox', (request, reply) =>
    sendIfChanged(reply, mailboxPage(world, null, 'html', request.query)),
  );

  app.get<{ Params: { id: string }; Querystring: Record<string, unknown> }>(
    '/mailbox/:id',
    (request, reply) => {
      const mail = findMail(world, request.params.id);
      if (!mail) return reply.code(404).send(goneMail());
      const view = VIEWS.find((name) => name === request.query['view']) ?? 'html';
      return sendIfChanged(reply, mailboxPage(world, mail, view, request.query));
    },
  );

  // The mail itself, for the frame. Its own styles are allowed and nothing else: no script, no outside address.
  app.get<{ Params: { id: string } }>('/mailbox/:id/body', (request, reply) => {
    const mail = findMail(world, request.params.id);
    if (!mail) return reply.code(404).send(goneMail());
    return reply
      .header('content-security-policy', MAIL_POLICY)
      .header('x-frame-options', 'SAMEORIGIN')
      .send(withLinksInNewTab(mail.html ?? ''));
  });

  app.get<{ Params: { id: string } }>('/mailbox/:id/source.eml', (request, reply) => {
    const mail = findMail(world, request.params.id);
    if (!mail) return reply.code(404).send(goneMail());
    return reply
      .type('message/rfc822')
      .header('content-disposition', `attachment; filename="${mail.id}.eml"`)
      .send(mailSource(mail));
  });

  app.post('/mailbox/clear', (_request, reply) => {
    world.atomically(() => clearMails(world));
    return reply.redirect('/mailbox', 303);
  });

  app.post('/mailbox/faults', (request, reply) => {
    const kind = MAIL_FAULTS.find((name) => name === field(request.body, 'kind'));
    const count = Number(field(request.body, 'count'));
    if (!kind || !Number.isInteger(count) || count < 0 || count > 1000)
      return reply
        .code(400)
        .send(problemPage('That did not work', 'Choose a fault and how many requests, 0 to 1000.'));
    failNextMails(world, kind, count);
    return reply.redirect('/console', 303);
  });
}

/** Answers 304 when the browser has this very page, so that live pages cost next to nothing while idle. */
export function sendIfChanged(reply: FastifyReply, text: string): FastifyReply {
  const etag = `"${createHash('sha1').update(text).digest('base64url')}"`;
  reply.headers({ etag, 'cache-control': 'no-cache' });
  if (reply.request.headers['if-none-match'] === etag) return reply.code(304).send();
  return reply.send(text);
}

/** How each mail fault reads in the console. */
export const MAIL_FAULT_NAMES: Record<MailFault, string> = {
  rate_limited: 'get 429',
  server_error: 'get 500',
  garbage: 'get 502 without JSON',
  timeout_before: 'be cut off',
  timeout_after: 'arrive, then be cut off',
  under_way: 'be cut off while under way',
};

const MAIL_POLICY =
  "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; " +
  "frame-ancestors 'self'; sandbox allow-popups allow-popups-to-escape-sandbox";

const goneMail = (): string =>
  problemPage(
    'No such mail',
    'It was cleared, or never arrived here.',
    html`<p><a href="/mailbox">All mails</a></p>`,
  );

function mailboxPage(world: World, mail: Mail | null, view: View, query: Record<string, unknown>): string {
  const to = typeof query['to'] === 'string' ? query['to'] : null;
  const all = listMails(world);
  const mails = to === null ? all : all.filter((one) => one.to.includes(to));
  return page({
    title: mail?.subject ?? 'Mailbox',
    part: 'mailbox',
    scripts: ['live.js'],
    body: html`
<div class="bar">
<h1>Mailbox</h1>
<p class="small muted">Every mail the product sent. None of them left this machine.</p>
<p class="live small end" data-live-state="idle">Reload to see new mails</p>
<p class="hidden" role="status" data-said></p>
<form method="post" action="/mailbox/clear"><button id="clear">Clear all</button></form>
</div>
<div class="mailbox${mail ? ' reading' : ''}">
<section class="card flush mails-list" aria-label="Mails"><ul class="mails" id="mails" data-live>${
      mails.length > 0
        ? mails.map((one) => row(one, one.id === mail?.id))
        : html`<li class="card"><p class="muted">No mail yet. Pay for something, and the receipt arrives here.</p></li>`
    }</ul></section>
<section class="card" aria-label="Mail">${mail ? html`<p class="mailbox-back"><a href="/mailbox">← All mails</a></p>${opened(mail, view)}` : html`<p class="muted">Choose a mail to read it.</p>`}</section>
</div>`,
  });
}

function row(mail: Mail, current: boolean): Html {
  return html`<li><a id="mail-${mail.id}" href="/mailbox/${mail.id}"${current ? html` aria-current="true"` : null}>
<b>${mail.subject}</b><br><span class="small muted">to ${mail.to.join(', ')}<br><time datetime="${moment(mail.createdAt)}Z">${moment(mail.createdAt)}</time></span></a></li>`;
}

function opened(mail: Mail, view: View): Html {
  const facts: [string, string][] = [
    ['From', mail.from],
    ['To', mail.to.join(', ')],
    ...(mail.cc.length > 0 ? [['Cc', mail.cc.join(', ')] satisfies [string, string]] : []),
    ...(mail.bcc.length > 0 ? [['Bcc', mail.bcc.join(', ')] satisfies [string, string]] : []),
    ...(mail.replyTo.length > 0 ? [['Reply to', mail.replyTo.join(', ')] satisfies [string, string]] : []),
    ['Sent', `${moment(mail.createdAt)} UTC`],
    ['Id', mail.id],
    ...(mail.idempotencyKey === null ? [] : [['Key', mail.idempotencyKey] satisfies [string, string]]),
    ...(mail.tags.length > 0
      ? [['Tags', mail.tags.map((tag) => `${tag.name}=${tag.value}`).join(', ')] satisfies [string, string]]
      : []),
  ];
  return html`<h2>${mail.subject}</h2>
<dl class="facts small">${facts.map(([name, value]) => html`<dt>${name}</dt><dd>${value}</dd>`)}</dl>
<nav class="tabs" aria-label="Ways to see this mail">${VIEWS.map(
    (name) =>
      html`<a href="/mailbox/${mail.id}?view=${name}"${name === view ? html` aria-current="page"` : null}>${VIEW_NAMES[name]}</a>`,
  )}</nav>
${shown(mail, view)}`;
}

function shown(mail: Mail, view: View): Html {
  switch (view) {
    case 'html':
      return mail.html === null
        ? html`<p class="muted">This mail has no HTML part.</p>`
        : html`<iframe class="mail-frame" title="The mail as read" src="/mailbox/${mail.id}/body" sandbox="allow-popups allow-popups-to-escape-sandbox"></iframe>`;
    case 'text':
      return mail.text === null
        ? html`<p class="muted">This mail has no text part.</p>`
        : html`<pre tabindex="0" aria-label="Text of the mail">${mail.text}</pre>`;
    case 'source':
      return html`<p><a href="/mailbox/${mail.id}/source.eml">Download as .eml</a></p><pre tabindex="0" aria-label="Source of the mail">${mailSource(mail)}</pre>`;
  }
}

const withLinksInNewTab = (source: string): string => {
  const base = '<base target="_blank">';
  return /<head[^>]*>/i.test(source) ? source.replace(/<head[^>]*>/i, (head) => head + base) : base + source;
};
