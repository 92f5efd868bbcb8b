import type { IncomingHttpHeaders } from 'node:http';
import type { FastifyInstance } from 'fastify';
import { StripeError } from './errors.ts';
import { PAGE_HEADERS } from './pages/door.ts';
import { problemPage } from './pages/layout.ts';
import { errorAnswer, send } from './send.ts';

/** Names of this machine that no name server answers for; with or without a port. */
const OWN_NAMES = /^(?:127\.0\.0\.1|\[::1\]|(?:[\w-]+\.)?localhost)(?::\d+)?$/i;

/**
 * Why a request may come from a web page of somebody else, or null. A name that was pointed at this machine, as DNS
 * rebinding does, shows in Host; a page of another site in Origin and Sec-Fetch-Site. Programs send neither.
 */
export function foreign(headers: IncomingHttpHeaders): 'name' | 'site' | null {
  const { host = '', origin, 'sec-fetch-site': site } = headers;
  if (!OWN_NAMES.test(host)) return 'name';
  if (site !== undefined) return site === 'same-origin' || site === 'none' ? null : 'site';
  return origin === undefined || origin === `http://${host}` ? null : 'site';
}

const WHY = {
  name: {
    title: 'Wrong address',
    message: 'The local Stripe answers under its own address only, such as 127.0.0.1 or localhost.',
  },
  site: {
    title: 'Sent from another site',
    message: 'The local Stripe takes nothing from the pages of another web site.',
  },
} as const;

/** The refusal of a request that may come from somebody else's web page. */
export function foreignRefusal(why: 'name' | 'site'): StripeError {
  return new StripeError({ status: 403, type: 'invalid_request_error', message: WHY[why].message });
}

/**
 * Refuses what web pages of others could send, at every door. Any page may lead to one of ours by a link, which is
 * what a page's own GET is for; routes say so with `config: { page: true }`.
 */
export function guardAllDoors(app: FastifyInstance): void {
  app.addHook('onRequest', async (request, reply) => {
    const why = foreign(request.headers);
    const isPage = request.routeOptions.config.page === true;
    const isLink = isPage && (request.method === 'GET' || request.method === 'HEAD');
    if (why === null || (why === 'site' && isLink)) return;
    if (!isPage) return send(reply, errorAnswer(foreignRefusal(why)));
    const { title, message } = WHY[why];
    return reply.code(403).headers(PAGE_HEADERS).send(problemPage(title, message));
  });
}

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Whether this is a page for people, to which others may link. */
    readonly page?: boolean;
  }
}
