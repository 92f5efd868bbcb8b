import type { FastifyInstance } from 'fastify';
import { ProblemError } from '../../shared/errors.ts';

const MAX_BODY_BYTES = 100_000;
const JSON_TYPE = /^application\/json\s*(?:;\s*charset="?utf-8"?\s*)?$/i;

/** Lets bodies of JSON in, as bytes: they are read only once the caller has been let in. */
export function acceptJson(app: FastifyInstance): void {
  app.addContentTypeParser(
    'application/json',
    { parseAs: 'buffer', bodyLimit: MAX_BODY_BYTES },
    (request, body, done) => {
      if (JSON_TYPE.test(request.headers['content-type'] ?? '')) return done(null, body);
      done(new ProblemError('unsupported-media-type', 'Send the body as application/json in UTF-8.'));
    },
  );
}
