import { createCipheriv, createDecipheriv, createHmac, randomBytes } from 'node:crypto';
import { ProblemError } from '../../shared/errors.ts';

/** Under which secrets are kept: 32 bytes. Null where this deployment was given none. */
export type SecretKey = Buffer | null;

export type SecretKeys = {
  readonly secretKey: SecretKey;
  /** The keys before it: what was encrypted under one of them can still be read. */
  readonly oldSecretKeys?: readonly Buffer[];
};

/** A secret that none of our keys opens: the operator took a key away too early, or the bytes were changed. */
export class SecretUnreadableError extends Error {
  override readonly name = 'SecretUnreadableError';

  constructor(endpointId: string) {
    super(
      `The secret of webhook endpoint ${endpointId} cannot be decrypted: WEBHOOK_SECRET_KEY does not hold the ` +
        'key it was encrypted under, or the stored bytes were changed. Bring the key back, behind the new one, ' +
        'or have the secret rotated.',
    );
  }
}

const PREFIX = 'whsec_';
const CHARACTERS = 32;
const SHOWN = PREFIX.length + 4;
/** The letters of base32, each of which is one of base64 as well: the libraries of Standard Webhooks decode it. */
const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';

/** A new secret: `whsec_` and 32 base32 characters, 160 random bits. */
export function newSecret(random: Uint8Array = randomBytes(CHARACTERS)): string {
  return `${PREFIX}${[...random].map((byte) => ALPHABET.charAt(byte % ALPHABET.length)).join('')}`;
}

/** The part of a secret that lists show. */
export function prefixOf(secret: string): string {
  return secret.slice(0, SHOWN);
}

const CIPHER = 'aes-256-gcm';
const IV_BYTES = 12;
const TAG_BYTES = 16;

/** Encrypts a secret for its endpoint alone: the bytes cannot be opened as those of another one. */
export function seal(key: SecretKey, endpointId: string, secret: string): Buffer {
  const iv = randomBytes(IV_BYTES);
  const cipher = createCipheriv(CIPHER, required(key), iv).setAAD(Buffer.from(endpointId));
  const text = Buffer.concat([cipher.update(secret, 'utf8'), cipher.final()]);
  return Buffer.concat([iv, cipher.getAuthTag(), text]);
}

/** Reads what `seal` wrote under one of the keys; throws a SecretUnreadableError where none of them opens it. */
export function unseal(keys: SecretKeys, endpointId: string, sealed: Buffer): string {
  const secret = tryUnseal(keys, endpointId, sealed);
  if (secret === null) throw new SecretUnreadableError(endpointId);
  return secret;
}

/** As `unseal`, with null where none of the keys opens it. */
export function tryUnseal(
  { secretKey, oldSecretKeys = [] }: SecretKeys,
  endpointId: string,
  sealed: Buffer,
): string | null {
  for (const key of [required(secretKey), ...oldSecretKeys]) {
    const secret = openWith(key, endpointId, sealed);
    if (secret !== null) return secret;
  }
  return null;
}

function openWith(key: Buffer, endpointId: string, sealed: Buffer): string | null {
  try {
    const decipher = createDecipheriv(CIPHER, key, sealed.subarray(0, IV_BYTES))
      .setAAD(Buffer.from(endpointId))
      .setAuthTag(sealed.subarray(IV_BYTES, IV_BYTES + TAG_BYTES));
    const text = sealed.subarray(IV_BYTES + TAG_BYTES);
    return Buffer.concat([decipher.update(text), decipher.final()]).toString('utf8');
  } catch {
    // The tag does not fit, or there are too few bytes for one: not of this key.
    return null;
  }
}

/** Whether the secret before the last rotation still signs beside the new one: until its grace, a date or unix ms, is over. */
export function signsAsWell(graceEndsAt: Date | number | null | undefined, now: Date): boolean {
  return graceEndsAt !== null && graceEndsAt !== undefined && Number(graceEndsAt) > now.getTime();
}

function required(key: SecretKey): Buffer {
  if (key !== null) return key;
  throw new ProblemError('feature-unavailable', 'This deployment is not set up to send webhooks.');
}

export type Signed = { eventId: string; eventType: string; body: string };

/** The headers that prove where a body comes from, at this moment; the first secret is the newest one. */
export function signatureHeaders(
  { eventId, eventType, body }: Signed,
  secrets: readonly string[],
  now: Date,
): Record<string, string> {
  const timestamp = Math.floor(now.getTime() / 1000);
  const hex = secrets.map((secret) => hmac(secret, `${timestamp}.${body}`).toString('hex'));
  const base64 = secrets.map((secret) =>
    hmac(Buffer.from(secret.slice(PREFIX.length), 'base64'), `${eventId}.${timestamp}.${body}`).toString(
      'base64',
    ),
  );
  return {
    'x-driftstack-signature': [`t=${timestamp}`, ...hex.map((signature) => `v1=${signature}`)].join(','),
    'x-driftstack-event-id': eventId,
    'x-driftstack-event-type': eventType,
    'webhook-id': eventId,
    'webhook-timestamp': String(timestamp),
    'webhook-signature': base64.map((signature) => `v1,${signature}`).join(' '),
  };
}

function hmac(key: string | Buffer, text: string): Buffer {
  return createHmac('sha256', key).update(text).digest();
}
