import Stripe from 'stripe';
import { describe, expect, it } from 'vitest';
import { verifySignature } from '../../server/stripe/inbox/signature.ts';
import { ProblemError } from '../../shared/errors.ts';

const now = new Date('2026-05-10T12:00:00Z');
const seconds = now.getTime() / 1000;
const secret = 'whsec_one';
const body = '{"id":"evt_1"}';

const header = (at = seconds, by = secret, payload = body) =>
  Stripe.webhooks.generateTestHeaderString({ payload, secret: by, timestamp: at });

const verdict = (given: string | undefined, secrets = [secret], payload: string | Buffer = body) => {
  try {
    verifySignature(secrets, Buffer.from(payload), given, now);
    return 'accepted';
  } catch (error) {
    if (error instanceof ProblemError && error.status === 400) return 'refused';
    throw error;
  }
};

describe('verifySignature', () => {
  it('accepts what the real generator signed', () => {
    expect(verdict(header())).toBe('accepted');
  });

  it('tries every secret, and takes any one of several signatures', () => {
    expect(verdict(header(seconds, 'whsec_two'), [secret, 'whsec_two'])).toBe('accepted');
    expect(verdict(`t=${seconds},v1=${'0'.repeat(64)},${header().split(',')[1]},v0=abc`)).toBe('accepted');
  });

  it('refuses another secret, an altered body and a deployment without secrets', () => {
    expect(verdict(header(seconds, 'whsec_two'))).toBe('refused');
    expect(verdict(header(), [secret], `${body} `)).toBe('refused');
    expect(verdict(header(), [])).toBe('refused');
  });

  it('allows the clock of Stripe five minutes, in both directions', () => {
    expect(verdict(header(seconds - 300))).toBe('accepted');
    expect(verdict(header(seconds + 300))).toBe('accepted');
    expect(verdict(header(seconds - 301))).toBe('refused');
    expect(verdict(header(seconds + 301))).toBe('refused');
  });

  it('tells how far our clock is ahead, of what was signed by Stripe only, on time or not', () => {
    const heard: number[] = [];
    const hear = (signed: string, bytes = body) => {
      try {
        verifySignature([secret], Buffer.from(bytes), signed, now, (seconds) => heard.push(seconds));
        return 'accepted';
      } catch (error) {
        return error instanceof ProblemError ? error.message : 'broken';
      }
    };
    expect(hear(header(seconds - 2))).toBe('accepted');
    expect(hear(header(seconds - 3_600))).toContain('3600 seconds ahead of');
    expect(hear(header(seconds + 3_600))).toContain('3600 seconds behind');
    expect(heard.splice(0)).toEqual([2, 3_600, -3_600]);
    const wrong = hear(header(seconds, 'whsec_two'));
    for (const signed of [header(seconds - 3_600, 'whsec_two'), header(seconds + 3_600, 'whsec_two')])
      expect(hear(signed)).toBe(wrong);
    expect(hear(header(seconds - 3_600), `${body} `)).toBe(wrong);
    expect(heard).toEqual([]);
  });

  it('signs the bytes and not what they decode to', () => {
    // Both byte sequences decode to the same replacement character.
    const signed = Buffer.from([0x22, 0xff, 0x22]);
    const swapped = Buffer.from([0x22, 0xfe, 0x22]);
    const made = header(seconds, secret, signed.toString('utf8'));
    expect(verdict(made, [secret], signed)).toBe('refused');
    expect(verdict(made, [secret], swapped)).toBe('refused');
  });

  it.each([
    ['nothing', undefined],
    ['an empty header', ''],
    ['no signature', `t=${seconds}`],
    ['an empty signature', `t=${seconds},v1=`],
    ['a signature of the wrong length', `t=${seconds},v1=abcd`],
    ['an older scheme only', header().replace('v1=', 'v0=')],
    ['no time', header().replace(/^t=\d+,/, '')],
    ['a time that is no number', header().replace(/^t=\d+/, 't=NaN')],
    ['a negative time', header().replace(/^t=/, 't=-')],
    ['two headers joined into one', `${header()}, ${header()}`],
    ['two times', `t=${seconds},${header()}`],
  ])('refuses %s', (_, given) => {
    expect(verdict(given)).toBe('refused');
  });
});
