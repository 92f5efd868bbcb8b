import { createHmac, timingSafeEqual } from 'node:crypto';
import { ProblemError } from '../../shared/errors.ts';

const TOLERANCE_S = 300;
const HEADER = /^t=(\d{1,12})((?:,v\d+=[^,=]*)+)$/;
const SIGNATURE = /^[0-9a-f]{64}$/;

/**
 * Throws 400 unless one of the secrets signed exactly these bytes within five minutes of `now`. The SDK's own
 * check is not used: it accepts a time in the future, decodes the bytes before it signs them, and answers some
 * malformed headers with an error of its own.
 */
export function verifySignature(
  secrets: readonly string[],
  rawBody: Buffer,
  header: string | undefined,
  now: Date,
): void {
  if (header === undefined) throw refused('The Stripe-Signature header is missing.');
  const parts = HEADER.exec(header);
  const [, time, rest] = parts ?? [];
  if (time === undefined || rest === undefined) throw refused('The Stripe-Signature header is malformed.');
  if (Math.abs(now.getTime() / 1000 - Number(time)) > TOLERANCE_S) {
    throw refused('The time in the Stripe-Signature header is more than five minutes away from ours.');
  }
  const given = rest
    .split(',')
    .filter((part) => part.startsWith('v1='))
    .map((part) => part.slice('v1='.length))
    .filter((signature) => SIGNATURE.test(signature))
    .map((signature) => Buffer.from(signature, 'hex'));
  const ours = secrets.map((secret) =>
    createHmac('sha256', secret).update(`${time}.`).update(rawBody).digest(),
  );
  if (!ours.some((expected) => given.some((signature) => timingSafeEqual(expected, signature)))) {
    throw refused('No signature in the Stripe-Signature header matches the body.');
  }
}

const refused = (detail: string) => new ProblemError('bad-request', detail);
