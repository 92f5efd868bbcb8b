import { createHmac } from 'node:crypto';
import { Webhook, WebhookVerificationError } from 'standardwebhooks';
import { describe, expect, it } from 'vitest';
import {
  newSecret,
  prefixOf,
  SecretUnreadableError,
  seal,
  signatureHeaders,
  unseal,
} from '../../server/webhooks/secrets.ts';
import { type StandardHeaders, verifyWebhookSignature } from '../../shared/webhook-signature.ts';

const secret = newSecret();
const other = newSecret();
const body = JSON.stringify({ id: 'evt_1', type: 'subscription.changed', data: { text: 'ü €' } });
// The package reads the clock of the machine.
const now = new Date();
const signed = (secrets = [secret], at = now, text = body) => {
  const headers = signatureHeaders(
    { eventId: 'evt_1', eventType: 'subscription.changed', body: text },
    secrets,
    at,
  );
  const standard: StandardHeaders = {
    'webhook-id': headers['webhook-id'] ?? '',
    'webhook-timestamp': headers['webhook-timestamp'] ?? '',
    'webhook-signature': headers['webhook-signature'] ?? '',
  };
  return { headers, own: headers['x-driftstack-signature'] ?? '', standard };
};

describe('secrets', () => {
  it('are whsec_ and 32 base32 characters, no two alike, and show four of them', () => {
    expect(secret).toMatch(/^whsec_[A-Z2-7]{32}$/);
    expect(secret).not.toBe(other);
    expect(prefixOf(secret)).toBe(secret.slice(0, 10));
  });

  it('are kept so that only this key opens them, for this endpoint, unchanged', () => {
    const key = Buffer.alloc(32, 1);
    const sealed = seal(key, 'endpoint', secret);
    expect(sealed.includes(secret.slice(6))).toBe(false);
    const keys = { secretKey: key };
    expect(unseal(keys, 'endpoint', sealed)).toBe(secret);
    expect(seal(key, 'endpoint', secret)).not.toEqual(sealed);
    expect(() => unseal({ secretKey: Buffer.alloc(32, 2) }, 'endpoint', sealed)).toThrow(
      SecretUnreadableError,
    );
    expect(() => unseal(keys, 'another', sealed)).toThrow(SecretUnreadableError);
    const changed = Buffer.from(sealed);
    changed.writeUInt8(changed.readUInt8(40) ^ 1, 40);
    expect(() => unseal(keys, 'endpoint', changed)).toThrow(SecretUnreadableError);
  });

  it('are opened by old keys as well, and kept under the first one', () => {
    const [old, older, current] = [1, 2, 3].map((byte) => Buffer.alloc(32, byte));
    if (!old || !older || !current) throw new Error('three keys');
    for (const key of [old, older, current]) {
      const keys = { secretKey: current, oldSecretKeys: [old, older] };
      expect(unseal(keys, 'endpoint', seal(key, 'endpoint', secret))).toBe(secret);
    }
    for (const bytes of [0, 12, 20, 28])
      expect(() => unseal({ secretKey: current }, 'endpoint', Buffer.alloc(bytes))).toThrow(
        SecretUnreadableError,
      );
  });

  it('cannot be kept without a key', () => {
    expect(() => seal(null, 'endpoint', secret)).toThrow('not set up to send webhooks');
  });
});

describe('signatures', () => {
  it('are what the conventions say, with two companions', () => {
    const { headers, own } = signed();
    const t = Math.floor(now.getTime() / 1000);
    const hex = createHmac('sha256', secret).update(`${t}.${body}`).digest('hex');
    expect(own).toBe(`t=${t},v1=${hex}`);
    expect(headers).toMatchObject({
      'x-driftstack-event-id': 'evt_1',
      'x-driftstack-event-type': 'subscription.changed',
    });
  });

  it('are verified by our function and by the package of Standard Webhooks', async () => {
    const { own, standard } = signed();
    expect(await verifyWebhookSignature({ body, header: own, secret })).toBe(true);
    expect(await verifyWebhookSignature({ body, header: standard, secret })).toBe(true);
    expect(await verifyWebhookSignature({ body: Buffer.from(body), header: own, secret })).toBe(true);
    expect(new Webhook(secret).verify(body, standard)).toEqual(JSON.parse(body));
  });

  it('are good for both secrets while one is rotated, the new one first', async () => {
    const { own, standard } = signed([other, secret]);
    const hexOf = (text: string) => /v1=(\w+)/.exec(text)?.[1];
    expect(hexOf(own)).toBe(hexOf(signed([other]).own));
    for (const one of [secret, other]) {
      expect(await verifyWebhookSignature({ body, header: own, secret: one })).toBe(true);
      expect(await verifyWebhookSignature({ body, header: standard, secret: one })).toBe(true);
      expect(new Webhook(one).verify(body, standard)).toEqual(JSON.parse(body));
    }
  });

  it('are refused for another body, secret or id, and when they are too old or from the future', async () => {
    const { own, standard } = signed();
    const changed = body.replace('changed', 'cancelled');
    const refused = async (over: Partial<Parameters<typeof verifyWebhookSignature>[0]>) =>
      expect(await verifyWebhookSignature({ body, header: own, secret, ...over })).toBe(false);
    for (const header of [own, standard]) {
      await refused({ header, body: changed });
      await refused({ header, secret: other });
      await refused({ header, now: new Date(now.getTime() + 301_000) });
      await refused({ header, now: new Date(now.getTime() - 302_000) });
    }
    await refused({ header: { ...standard, 'webhook-id': 'evt_2' } });
    await refused({ header: own.replace(/t=(\d+)/, (_, t) => `t=${Number(t) + 1}`) });
    expect(() => new Webhook(other).verify(body, standard)).toThrow(WebhookVerificationError);
  });

  it.each([
    '',
    't=',
    'v1=abc',
    't=1,t=2,v1=00',
    't=x,v1=00',
    `t=${Math.floor(now.getTime() / 1000)}`,
    ',,,',
    't=1e9,v1=0',
  ])('answers false to the header %j and never throws', async (header) => {
    expect(await verifyWebhookSignature({ body, header, secret })).toBe(false);
  });

  it('answers false to a header that is missing or was sent twice, and to an empty secret', async () => {
    const { own, standard } = signed();
    for (const header of [undefined, [own], [own, own], []])
      expect(await verifyWebhookSignature({ body, header, secret, now })).toBe(false);
    for (const header of [own, standard])
      for (const empty of ['', 'whsec_'])
        expect(await verifyWebhookSignature({ body, header, secret: empty, now })).toBe(false);
  });

  it('answers false to nonsense in the headers of Standard Webhooks', async () => {
    const { standard } = signed();
    for (const over of [
      { 'webhook-signature': 'v1,***' },
      { 'webhook-signature': '' },
      { 'webhook-timestamp': 'x' },
    ])
      expect(await verifyWebhookSignature({ body, header: { ...standard, ...over }, secret })).toBe(false);
    expect(await verifyWebhookSignature({ body, header: standard, secret: 'whsec_***' })).toBe(false);
  });
});
