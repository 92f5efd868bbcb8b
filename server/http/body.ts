import type { FastifyInstance } from 'fastify';
import { ProblemError } from '../../shared/errors.ts';

const MAX_BODY_BYTES = 100_000;
const JSON_TYPE = /^application\/json\s*(?:;\s*charset="?utf-8"?\s*)?$/i;

/**
 * Lets bodies of JSON in, as bytes: they are read only once the caller has been let in. No bytes are no body,
 * whatever type they are said to be of, because many programs name one for a POST that has none.
 */
export function acceptJson(app: FastifyInstance): void {
  app.addHook('onRequest', (request, _reply, done) => {
    // Fastify refuses what is no media type before it looks for a body.
    if (request.headers['content-length'] === '0') delete request.raw.headers['content-type'];
    done();
  });
  app.addContentTypeParser(
    'application/json',
    { parseAs: 'buffer', bodyLimit: MAX_BODY_BYTES },
    (request, body, done) => {
      if (body.length === 0 || JSON_TYPE.test(request.headers['content-type'] ?? '')) return done(null, body);
      done(notJson());
    },
  );
  app.addContentTypeParser('*', (request, payload, done) => {
    // Nothing of it is kept, so it is refused as soon as it is known to be something.
    if (Number(request.headers['content-length']) > 0) return done(notJson());
    let isEmpty = true;
    payload.once('data', () => {
      isEmpty = false;
      done(notJson());
    });
    payload.once('end', () => isEmpty && done(null));
    payload.once('error', (error) => isEmpty && done(error));
  });
}

const notJson = () =>
  new ProblemError('unsupported-media-type', 'Send the body as application/json in UTF-8.');
