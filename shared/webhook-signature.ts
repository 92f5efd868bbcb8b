/** The three headers of Standard Webhooks 1.0. */
export type StandardHeaders = {
  readonly 'webhook-id': string;
  readonly 'webhook-timestamp': string;
  readonly 'webhook-signature': string;
};

export type SignedWebhook = {
  /** The body exactly as it arrived; parsing and writing it again may change it. */
  body: string | Uint8Array;
  /** `X-Driftstack-Signature` as your server hands it over, or the three headers of Standard Webhooks. */
  header: string | readonly string[] | undefined | StandardHeaders;
  /** `whsec_…` */
  secret: string;
  /** How old a signature may be; five minutes unless told otherwise. */
  toleranceSeconds?: number;
  now?: Date;
};

const TOLERANCE_SECONDS = 300;

/**
 * Whether we sent this body, lately: one of the signatures is by this secret, and its time is within the
 * tolerance. False for anything else, never an error.
 */
export async function verifyWebhookSignature({
  body,
  header,
  secret,
  toleranceSeconds = TOLERANCE_SECONDS,
  now = new Date(),
}: SignedWebhook): Promise<boolean> {
  const claim = readClaim(header, secret);
  // An empty key is one that anybody has, and `importKey` would throw.
  if (claim === null || claim.key.length === 0) return false;
  const ageSeconds = Math.abs(now.getTime() / 1000 - Number(claim.timestamp));
  if (ageSeconds > toleranceSeconds) return false;
  const key = await crypto.subtle.importKey('raw', claim.key, { name: 'HMAC', hash: 'SHA-256' }, false, [
    'verify',
  ]);
  const text = typeof body === 'string' ? ENCODER.encode(body) : body;
  const signed = join(ENCODER.encode(claim.beforeBody), text);
  // `verify` compares in constant time. Several signatures stand there while a secret is rotated.
  const verdicts = await Promise.all(
    claim.signatures.map((signature) => crypto.subtle.verify('HMAC', key, signature, signed)),
  );
  return verdicts.includes(true);
}

const ENCODER = new TextEncoder();
const PREFIX = 'whsec_';
const SECONDS = /^\d{1,12}$/;

type Bytes = Uint8Array<ArrayBuffer>;
type Claim = { timestamp: string; beforeBody: string; key: Bytes; signatures: Bytes[] };

function readClaim(header: SignedWebhook['header'], secret: string): Claim | null {
  if (typeof header === 'string') return ofDriftstack(header, secret);
  // Missing, or sent several times: we send it once.
  if (header === undefined || !('webhook-id' in header)) return null;
  return ofStandard(header, secret);
}

/** `t=<unix seconds>,v1=<hex>[,v1=<hex>]` over `<t>.<body>`; the key is the text of the secret. */
function ofDriftstack(header: string, secret: string): Claim | null {
  const members = header.split(',').map((member) => member.trim());
  const timestamps = members.flatMap((member) => (member.startsWith('t=') ? [member.slice(2)] : []));
  const [timestamp = '', second] = timestamps;
  if (second !== undefined || !SECONDS.test(timestamp)) return null;
  const signatures = members.flatMap((member) => {
    const hex = /^v1=([0-9a-f]{64})$/.exec(member)?.[1];
    return hex === undefined ? [] : [Uint8Array.from({ length: 32 }, (_, at) => byteOf(hex, at))];
  });
  return { timestamp, beforeBody: `${timestamp}.`, key: ENCODER.encode(secret), signatures };
}

function byteOf(hex: string, at: number): number {
  return Number.parseInt(hex.slice(at * 2, at * 2 + 2), 16);
}

/** `v1,<base64>[ v1,<base64>]` over `<id>.<timestamp>.<body>`; the key is what the secret encodes. */
function ofStandard(headers: StandardHeaders, secret: string): Claim | null {
  const { 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': list } = headers;
  const key = fromBase64(secret.startsWith(PREFIX) ? secret.slice(PREFIX.length) : secret);
  if (key === null || !id || !list || !SECONDS.test(timestamp)) return null;
  const signatures = list.split(' ').flatMap((entry) => {
    const bytes = entry.startsWith('v1,') ? fromBase64(entry.slice(3)) : null;
    return bytes === null ? [] : [bytes];
  });
  return { timestamp, beforeBody: `${id}.${timestamp}.`, key, signatures };
}

function fromBase64(text: string): Bytes | null {
  try {
    return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  } catch {
    return null;
  }
}

function join(a: Uint8Array, b: Uint8Array): Bytes {
  const all = new Uint8Array(a.length + b.length);
  all.set(a);
  all.set(b, a.length);
  return all;
}
