import Fastify, { type FastifyInstance } from 'fastify';
import { Resend } from 'resend';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { mailbox } from '../mailbox.ts';
import { clearMails, failNextMails, findMail, listMails } from '../mails.ts';
import { openWorld } from '../open-world.ts';
import { mailSource } from '../pages/mail-source.ts';
import type { World } from '../world.ts';

let app: FastifyInstance;
let world: World;
let resend: Resend;
let baseUrl = '';
let now = Date.UTC(2026, 4, 1);

/** The rate limit starts afresh: the tests that are not about it are not disturbed by it. */
const nextSecond = (): void => {
  now += 1000;
};

beforeEach(async () => {
  now = Date.UTC(2026, 4, 1);
  world = openWorld({ path: ':memory:', clock: () => now });
  app = Fastify();
  await app.register(mailbox, { world, clock: () => now });
  baseUrl = await app.listen({ port: 0, host: '127.0.0.1' });
  resend = new Resend('re_test_1', { baseUrl });
});

afterEach(async () => {
  await app.close();
  world.close();
});

const letter = {
  from: 'Driftstack <billing@driftstack.test>',
  to: 'ada@example.test',
  subject: 'Grüße & receipts',
  html: '<p>Paid</p>',
  text: 'Paid',
};

describe('the mailbox', () => {
  it('takes a mail from the resend package and gives it back', async () => {
    const sent = await resend.emails.send({
      ...letter,
      cc: ['bob@example.test'],
      replyTo: 'help@driftstack.test',
      tags: [{ name: 'template', value: 'receipt' }],
    });
    expect(sent.error).toBeNull();
    const got = await resend.emails.get(sent.data?.id ?? '');
    expect(got.data).toMatchObject({
      object: 'email',
      from: letter.from,
      to: ['ada@example.test'],
      cc: ['bob@example.test'],
      bcc: null,
      reply_to: ['help@driftstack.test'],
      subject: letter.subject,
      html: letter.html,
      text: letter.text,
      last_event: 'delivered',
      created_at: '2026-05-01T00:00:00.000Z',
    });
  });

  it('sends once per idempotency key, refuses another body, and forgets the key after 24 hours', async () => {
    const first = await resend.emails.send(letter, { idempotencyKey: 'receipt/1' });
    const again = await resend.emails.send(letter, { idempotencyKey: 'receipt/1' });
    expect(again.data).toEqual(first.data);
    nextSecond();
    const other = await resend.emails.send({ ...letter, text: 'Other' }, { idempotencyKey: 'receipt/1' });
    expect(other.error).toMatchObject({ statusCode: 409, name: 'invalid_idempotent_request' });
    expect(listMails(world)).toHaveLength(1);
    now += 24 * 60 * 60 * 1000;
    const later = await resend.emails.send(letter, { idempotencyKey: 'receipt/1' });
    expect(later.data?.id).not.toBe(first.data?.id);
    expect(listMails(world)).toHaveLength(2);
  });

  it('refuses an idempotency key of more than 256 characters', async () => {
    const { error } = await resend.emails.send(letter, { idempotencyKey: 'k'.repeat(257) });
    expect(error).toMatchObject({ statusCode: 400, name: 'invalid_idempotency_key' });
  });

  it('allows two requests per second and says so in the headers', async () => {
    const first = await resend.emails.send(letter);
    expect(first.headers).toMatchObject({ 'ratelimit-limit': '2', 'ratelimit-remaining': '1' });
    await resend.emails.send(letter);
    const third = await resend.emails.send(letter);
    expect(third.error).toMatchObject({ statusCode: 429, name: 'rate_limit_exceeded' });
    expect(third.headers).toMatchObject({ 'retry-after': '1', 'ratelimit-remaining': '0' });
    nextSecond();
    expect((await resend.emails.send(letter)).error).toBeNull();
    expect(listMails(world)).toHaveLength(3);
  });

  describe('a batch', () => {
    const letters = ['ada', 'bob', 'eve'].map((name) => ({ ...letter, to: `${name}@example.test` }));
    const bad = { ...letter, to: 'nobody' };
    const kept = () => listMails(world).map((mail) => mail.to[0]);

    it('arrives in its order, with an id for each mail', async () => {
      const tags = [{ name: 'template', value: 'receipt' }];
      const { data, error } = await resend.batch.send(letters.map((one) => ({ ...one, tags })));
      expect(error).toBeNull();
      expect(data).toEqual({ data: letters.map(() => ({ id: expect.any(String) })) });
      expect(data?.data.map(({ id }) => findMail(world, id)?.to[0])).toEqual(letters.map(({ to }) => to));
      expect(listMails(world)[0]?.tags).toEqual(tags);
    });

    it('with one bad mail is refused whole, naming the first thing wrong', async () => {
      const strict = await resend.batch.send([letter, bad, { ...letter, from: 'nobody' }]);
      expect(strict.error).toMatchObject({ statusCode: 422, name: 'validation_error' });
      expect(strict.error?.message).toContain('`to`');
      expect(listMails(world)).toHaveLength(0);
    });

    it('with one bad mail leaves its key free', async () => {
      await resend.batch.send([letter, bad], { idempotencyKey: 'batch/1' });
      const mended = await resend.batch.send([letter], { idempotencyKey: 'batch/1' });
      expect(mended.error).toBeNull();
    });

    it('that is permissive arrives in its valid part, and the rest is named by where it stood', async () => {
      const { data } = await resend.batch.send([letter, bad, letters[2] ?? letter], {
        batchValidation: 'permissive',
      });
      expect(data?.data).toHaveLength(2);
      expect(data?.errors).toEqual([{ index: 1, message: expect.stringContaining('`to`') }]);
      expect(kept()).toEqual(['eve@example.test', 'ada@example.test']);
    });

    it('is taken in once for each key, and answered alike', async () => {
      const key = { idempotencyKey: 'batch/1', batchValidation: 'permissive' } as const;
      const first = await resend.batch.send([...letters, bad], key);
      const again = await resend.batch.send([...letters, bad], key);
      expect(again.data).toEqual(first.data);
      expect(listMails(world)).toHaveLength(3);
    });

    it.each([
      ['in another order', () => letters.toReversed()],
      ['without one of them', () => letters.slice(1)],
      ['with other words', () => letters.map((one) => ({ ...one, text: 'Other' }))],
    ])('under a known key %s is refused', async (_what, change) => {
      await resend.batch.send(letters, { idempotencyKey: 'batch/1' });
      const { error } = await resend.batch.send(change(), { idempotencyKey: 'batch/1' });
      expect(error).toMatchObject({ statusCode: 409, name: 'invalid_idempotent_request' });
      expect(listMails(world)).toHaveLength(3);
    });

    it('cannot have the key of a single mail', async () => {
      await resend.emails.send(letter, { idempotencyKey: 'one/1' });
      const { error } = await resend.batch.send([letter], { idempotencyKey: 'one/1' });
      expect(error).toMatchObject({ statusCode: 409, name: 'invalid_idempotent_request' });
    });

    it('is forgotten by its key after 24 hours', async () => {
      await resend.batch.send(letters, { idempotencyKey: 'batch/1' });
      now += 24 * 60 * 60 * 1000;
      await resend.batch.send(letters, { idempotencyKey: 'batch/1' });
      expect(listMails(world)).toHaveLength(6);
    });

    it('has a hundred mails at most, one at least, and counts as one request', async () => {
      const hundred = Array.from({ length: 100 }, () => letter);
      const { error } = await resend.batch.send([...hundred, letter], { batchValidation: 'permissive' });
      expect(error).toMatchObject({ statusCode: 422, name: 'validation_error' });
      const whole = await resend.batch.send(hundred);
      expect(whole.data?.data).toHaveLength(100);
      expect(whole.headers).toMatchObject({ 'ratelimit-remaining': '0' });
      nextSecond();
      expect((await resend.batch.send([])).error).toMatchObject({ statusCode: 422 });
      expect(listMails(world)).toHaveLength(100);
    });

    it('takes no attachments', async () => {
      const body = JSON.stringify([{ ...letter, attachments: [{ filename: 'a.pdf', content: 'AA==' }] }]);
      const headers = { authorization: 'Bearer re_test_1' };
      const response = await fetch(`${baseUrl}/emails/batch`, { method: 'POST', body, headers });
      expect(response.status).toBe(422);
      expect(await response.json()).toMatchObject({ message: expect.stringContaining('`attachments`') });
    });
  });

  it.each([
    ['to', { to: undefined }, 422, 'missing_required_field', 'Missing `to` field.'],
    ['from', { from: 'no address' }, 422, 'validation_error', 'Invalid `from` field.'],
    [
      'subject',
      { subject: 'a\r\nBcc: eve@example.test' },
      422,
      'validation_error',
      'Invalid `subject` field.',
    ],
    [
      'body',
      { html: undefined, text: undefined },
      422,
      'validation_error',
      'Missing `html` or `text` field.',
    ],
  ])('names what is wrong with %s', async (_name, change, statusCode, name, message) => {
    // The package's types forbid these mails; the point is what the server says about them.
    const broken = JSON.parse(JSON.stringify({ ...letter, ...change }));
    const { error } = await resend.emails.send(broken);
    expect(error).toMatchObject({ statusCode, name, message: expect.stringContaining(message) });
    expect(listMails(world)).toHaveLength(0);
  });

  it('asks for a key and knows the form of one', async () => {
    const url = `${baseUrl}/emails`;
    const none = await fetch(url, { method: 'POST', body: '{}' });
    expect([none.status, await none.json()]).toMatchObject([401, { name: 'missing_api_key' }]);
    const wrong = await fetch(url, {
      method: 'POST',
      body: '{}',
      headers: { authorization: 'Bearer nonsense' },
    });
    expect([wrong.status, await wrong.json()]).toMatchObject([403, { name: 'invalid_api_key' }]);
  });

  it('says not found for a mail it does not have, and for a cleared one', async () => {
    const sent = await resend.emails.send(letter);
    clearMails(world);
    const { error } = await resend.emails.get(sent.data?.id ?? '');
    expect(error).toMatchObject({ statusCode: 404, name: 'not_found' });
  });

  describe.each([
    ['mail', 1, () => resend.emails.send(letter, { idempotencyKey: 'k1' })],
    ['batch', 3, () => resend.batch.send([letter, letter, letter], { idempotencyKey: 'k1' })],
  ] as const)('ordered to fail the next %s', (_what, mails, send) => {
    it.each([
      ['rate_limited', { statusCode: 429, name: 'rate_limit_exceeded' }, 0],
      ['server_error', { statusCode: 500, name: 'internal_server_error' }, 0],
      ['garbage', { statusCode: 502, name: 'application_error' }, 0],
      ['timeout_before', { statusCode: null, name: 'application_error' }, 0],
      ['timeout_after', { statusCode: null, name: 'application_error' }, mails],
    ] as const)('with %s, does, and the retry with its key arrives once', async (kind, error, kept) => {
      failNextMails(world, kind, 1);
      expect((await send()).error).toMatchObject(error);
      expect(listMails(world)).toHaveLength(kept);
      expect((await send()).error).toBeNull();
      expect(listMails(world)).toHaveLength(mails);
    });

    it('while it is under way, says so to the next with its key and answers the one after', async () => {
      failNextMails(world, 'under_way', 1);
      expect((await send()).error).toMatchObject({ statusCode: null });
      expect((await send()).error).toMatchObject({ statusCode: 409, name: 'concurrent_idempotent_requests' });
      nextSecond();
      expect((await send()).error).toBeNull();
      expect(listMails(world)).toHaveLength(mails);
    });
  });

  it('writes the source as a message that mail programs read', async () => {
    await resend.emails.send(letter);
    const [mail] = listMails(world);
    const source = mail ? mailSource(mail) : '';
    expect(source).toContain('Subject: =?utf-8?B?R3LDvMOfZSAmIHJlY2VpcHRz?=\r\n');
    expect(source).toContain('Content-Type: multipart/alternative;');
    expect(source.match(/Content-Type: text\/(plain|html)/g)).toHaveLength(2);
  });
});
