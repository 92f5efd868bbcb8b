import { ProblemError } from '../../shared/errors.ts';
import { type ErrorResponse, example } from './openapi-example.ts';

const TOO_SLOW: ErrorResponse = {
  description: 'The request was not complete in time. The connection is closed.',
  examples: [
    example('Too slow', new ProblemError('request-timeout', 'The request was not complete in time.')),
  ],
};

const ENCODED: ErrorResponse = {
  description: 'The request names a content encoding.',
  examples: [
    example(
      'Encoded',
      new ProblemError('unsupported-media-type', 'Send the body without a content encoding.'),
    ),
  ],
};

const EXPECTATION: ErrorResponse = {
  description: 'The request has an `Expect` header that asks for something else than `100-continue`.',
  examples: [
    example(
      'Expectation',
      new ProblemError('expectation-failed', 'The Expect header may ask for 100-continue alone.'),
    ),
  ],
};

const HEADERS_TOO_LARGE: ErrorResponse = {
  description: 'The headers of the request are larger than 16 kB. The connection is closed.',
  examples: [
    example('Headers', new ProblemError('headers-too-large', 'The headers of the request are too large.')),
  ],
};

const TOO_LARGE: ErrorResponse = {
  description: 'The body is larger than 100 kB. The connection is closed.',
  examples: [example('Too large', new ProblemError('payload-too-large', 'The body is too large.'))],
};

const NOT_JSON: ErrorResponse = {
  description: 'The body is not `application/json` in UTF-8, or it is compressed.',
  examples: [
    example('Not JSON', new ProblemError('unsupported-media-type', 'Send the body as application/json.')),
  ],
};

/** What any request can be refused with before a procedure hears of it, by status. */
export const transportErrors = (method: string): readonly (readonly [number, ErrorResponse])[] => [
  [408, TOO_SLOW],
  ...(method === 'GET' ? [] : [[413, TOO_LARGE] as const]),
  [415, method === 'GET' ? ENCODED : NOT_JSON],
  [417, EXPECTATION],
  [431, HEADERS_TOO_LARGE],
];
