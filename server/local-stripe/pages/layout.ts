import { type Html, html } from './html.ts';
import { moment } from './words.ts';

export interface PageContent {
  readonly title: string;
  /** Which part of the local Stripe the page belongs to; the console and the mailbox get the navigation. */
  readonly part: 'checkout' | 'portal' | 'invoice' | 'mailbox' | 'console' | 'app' | 'problem';
  readonly body: Html;
  /** Files in `assets/`, loaded as ES modules. Every page works without them. */
  readonly scripts?: readonly string[];
  /** Leads on to this address at once. */
  readonly leadsTo?: string | null;
  /** Where the page belongs to someone else's flow: one link back, beside the banner. */
  readonly back?: { readonly href: string; readonly label: string } | null;
}

/** A whole page. Nothing in it is inline script or style, so that the strict policy of `door.ts` holds. */
export function page({ title, part, body, scripts = [], back = null, leadsTo = null }: PageContent): string {
  const document = html`<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="robots" content="noindex">
${leadsTo === null ? null : html`<meta http-equiv="refresh" content="0; url=${leadsTo}">`}
<title>${title} · Driftstack local Stripe</title>
<link rel="icon" href="/_pages/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/_pages/style.css">
${scripts.map((file) => html`<script type="module" src="/_pages/${file}"></script>`)}
</head>
<body class="part-${part}">
<a class="skip" href="#main">Skip to the content</a>
<header class="top">
<p class="name"><span class="mark" aria-hidden="true"></span>Driftstack <b>local Stripe</b></p>
<p class="banner">Test money, this machine only. Nobody is charged.</p>
${part === 'console' || part === 'mailbox' ? navigation(part) : null}
${back ? html`<a class="back" href="${back.href}" rel="noreferrer">${back.label}</a>` : null}
</header>
<main id="main" tabindex="-1">
${body}
</main>
</body>
</html>`;
  return `<!doctype html>\n${document.source}\n`;
}

function navigation(current: 'console' | 'mailbox'): Html {
  const link = (part: 'console' | 'mailbox', label: string): Html =>
    html`<a href="/${part}"${part === current ? html` aria-current="page"` : null}>${label}</a>`;
  return html`<nav aria-label="Main">${link('console', 'Console')}${link('mailbox', 'Mailbox')}</nav>`;
}

/** A friendly page for something that cannot be shown or done: one heading, why, and what to do instead. */
export function problemPage(title: string, why: string, next: Html | null = null): string {
  return page({
    title,
    part: 'problem',
    body: html`<section class="card narrow"><h1>${title}</h1><p>${why}</p>${next}</section>`,
  });
}

/** A moment in a log, with its day: unix seconds, or as an ISO text in UTC. */
export function stamp(at: number | string): Html {
  const iso = typeof at === 'number' ? `${moment(at).replace(' ', 'T')}Z` : at;
  return html`<time datetime="${iso}">${iso.slice(0, 10)}<br>${iso.slice(11, 19)}</time>`;
}

/** A hidden field of a plain form. */
export function hiddenField(name: string, value: string): Html {
  return html`<input type="hidden" name="${name}" value="${value}">`;
}

/** What went wrong with what the person just did; read aloud at once, and focused by `form.js`. */
export function alert(message: string | null): Html | null {
  return message === null
    ? null
    : html`<p class="alert" role="alert" tabindex="-1" data-focus>${message}</p>`;
}

/** What was just done; read aloud when the person is idle. */
export function notice(message: string | null): Html {
  return html`<p class="notice" role="status">${message}</p>`;
}
