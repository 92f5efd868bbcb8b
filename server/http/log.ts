import pino, { type DestinationStream, type Logger } from 'pino';
import { describeError } from '../database/describe-error.ts';
import { gatherLines } from './log-stream.ts';

/**
 * The logger of the process: JSON lines, written to standard output unless told otherwise. Headers and bodies
 * are never given to it; should a caller's secret ever come along all the same, it is replaced.
 */
export function createLog({ level, stream }: { level: string; stream?: DestinationStream }): Logger {
  const options = {
    level,
    base: {},
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
    redact: { paths: REDACTED, censor: '[redacted]' },
    serializers: { err: describeError },
  };
  return pino(options, stream ?? gatherLines(pino.destination({ sync: true }), process));
}

const SECRET_NAMES = [
  'authorization',
  'apiKey',
  'api_key',
  'secret',
  'secretKey',
  'password',
  'body',
  'rawBody',
];
const REDACTED = SECRET_NAMES.flatMap((name) => [name, `*.${name}`, `*.*.${name}`]);
