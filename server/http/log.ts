import pino, { type DestinationStream, type Logger } from 'pino';
import { redactSecrets } from '../../shared/redact.ts';

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
  return stream ? pino(options, stream) : pino(options);
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

type DescribedError = {
  type: string;
  message: string;
  code?: unknown;
  stack?: string;
  cause?: DescribedError;
};

/** Only these: errors of drivers and SDKs carry statements, parameters and raw answers as further members. */
function describeError(error: unknown): DescribedError {
  if (!(error instanceof Error)) return { type: typeof error, message: redactSecrets(String(error)) };
  return {
    type: error.name,
    message: redactSecrets(error.message),
    ...('code' in error && { code: error.code }),
    ...(error.stack !== undefined && { stack: redactSecrets(error.stack) }),
    ...(error.cause !== undefined && { cause: describeError(error.cause) }),
  };
}
