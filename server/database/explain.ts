import { isDatabaseError } from './origin.ts';
import { isDatabaseUnavailable } from './unavailable.ts';

const UNTRUSTED =
  'nobody trusted vouches for the certificate of the server; name its authority by sslrootcert';
const NO_ANSWER = 'there is no answer; check host, port and firewall';

/** What stands behind codes of the network, of TLS and of PostgreSQL (SQLSTATE), and what to do about it. */
const REASONS: Readonly<Record<string, string>> = {
  ENOTFOUND: 'its host is not known; check how it is written',
  EAI_AGAIN: 'the name server does not answer, so its host cannot be looked up; try again',
  ECONNREFUSED: 'nothing listens there; check host and port, and that PostgreSQL runs',
  ECONNRESET:
    'the connection was closed; check that PostgreSQL listens there, and with TLS if TLS is asked for',
  ETIMEDOUT: NO_ANSWER,
  EHOSTUNREACH: 'there is no way to its host; check host and network',
  ENETUNREACH: 'there is no way to its host; check host and network',
  ENOENT: 'a file or socket that it names does not exist; correct the path',
  DEPTH_ZERO_SELF_SIGNED_CERT: UNTRUSTED,
  SELF_SIGNED_CERT_IN_CHAIN: UNTRUSTED,
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: UNTRUSTED,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: UNTRUSTED,
  CERT_HAS_EXPIRED: 'the certificate of the server has expired; renew it',
  ERR_TLS_CERT_ALTNAME_INVALID: 'the certificate of the server is for another host; use the name it is for',
  '08P01': 'the server does not speak as PostgreSQL does; check host and port',
  '25006': 'the database is read-only, as a standby is; name the primary server',
  '28P01': 'the server refuses the user name or the password; correct them',
  '28000':
    'the server does not let this user in; check the user name, pg_hba.conf, and whether it asks for TLS',
  '3D000': 'there is no such database on this server; correct the name, or create it (nothing was created)',
  '42501':
    'this user lacks a right that is needed; make it the owner of the database, or grant it what it lacks',
  '53100': 'the disk of the server is full; make room',
  '53300': 'the server has no connection left; allow more, or start fewer processes',
  '55P03': 'another process held a lock for too long; try again',
  '57P03': 'the server is starting up or shutting down; try again',
  XX001: 'its data is damaged; restore it from a copy',
  XX002: 'its data is damaged; restore it from a copy',
  '58P01': 'its data is damaged, a file of it is missing; restore it from a copy',
  '58030': 'the server cannot read or write its files; check its disk',
};

/** pg has no codes for what it notices by itself. */
const BY_MESSAGE: readonly (readonly [RegExp, string])[] = [
  [/does not support SSL/, 'the server offers no TLS; take sslmode out of the URL, or turn TLS on there'],
  [/client password must be a/, 'the server asks for a password, and there is none in the URL'],
  [/timeout expired|timeout exceeded/, NO_ANSWER],
  [/Connection terminated|Query read timeout/, 'the connection was lost; try again'],
];

/**
 * What a person can do about an error of the database, as the second half of a sentence; null for any other: the
 * same codes come from whatever else is reached over a network.
 */
export function explainDatabaseError(error: unknown): string | null {
  for (const one of chain(error)) {
    if (!isDatabaseError(error) && !isDatabaseError(one) && !('severity' in one)) continue;
    const reason = 'code' in one && typeof one.code === 'string' ? REASONS[one.code] : undefined;
    if (reason !== undefined) return reason;
    const found = BY_MESSAGE.find(([pattern]) => pattern.test(one.message));
    if (found) return found[1];
  }
  return isDatabaseUnavailable(error) ? 'it does not answer just now; try again' : null;
}

/** The error, what caused it, and what an AggregateError holds. */
function* chain(error: unknown): Generator<Error> {
  if (!(error instanceof Error)) return;
  yield error;
  if (error instanceof AggregateError) for (const one of error.errors) yield* chain(one);
  yield* chain(error.cause);
}
