import { createHmac, timingSafeEqual } from 'node:crypto';
import { ProblemError } from '../../../shared/errors.ts';

const TOLERANCE_S = 300;
const HEADER = /^t=(\d{1,12})((?:,v\d+=[^,=]*)+)$/;
const SIGNATURE = /^[0-9a-f]{64}$/;

/** Told by how many seconds our clock is ahead of the time at which Stripe signed, the way included. */
export type OnSigned = (aheadSeconds: number) => void;

/** Whether what is signed so long ago, or ahead, is taken: within five minutes. */
export const isOnTime = (aheadSeconds: number): boolean => Math.abs(aheadSeconds) <= TOLERANCE_S;

/**
 * Throws 400 unless one of the secrets signed exactly these bytes within five minutes of `now`. `onSigned` hears of
 * whatever is signed by one, on time or not: Stripe signs anew at each try, so a time that is off says that a clock
 * is, or that somebody repeats what he has overheard. The SDK's own
 * check is not used: it accepts a time in the future, decodes the bytes before it signs them, and answers some
 * malformed headers with an error of its own.
 */
export function verifySignature(
  secrets: readonly string[],
  rawBody: Buffer,
  header: string | undefined,
  now: Date,
  onSigned?: OnSigned,
): void {
  if (header === undefined) throw refused('The Stripe-Signature header is missing.');
  const parts = HEADER.exec(header);
  const [, time, rest] = parts ?? [];
  if (time === undefined || rest === undefined) throw refused('The Stripe-Signature header is malformed.');
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
  const aheadSeconds = Math.floor(now.getTime() / 1000) - Number(time);
  onSigned?.(aheadSeconds);
  if (!isOnTime(aheadSeconds)) {
    throw refused(`The signature is right, but ${explainClock(aheadSeconds)}`);
  }
}

/** A clause about a clock that is off, for whoever has to set it. */
export function explainClock(aheadSeconds: number): string {
  const way = aheadSeconds > 0 ? 'ahead of' : 'behind';
  return `this server's clock is ${Math.abs(aheadSeconds)} seconds ${way} the time at which it was signed, and ${TOLERANCE_S} are allowed.`;
}

const refused = (detail: string) => new ProblemError('bad-request', detail);
