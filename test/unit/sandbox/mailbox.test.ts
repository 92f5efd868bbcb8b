import Fastify, { type FastifyInstance } from 'fastify';
import { Resend } from 'resend';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { mailbox } from '../../../server/sandbox/mailbox.ts';
import { clearMails, failNextMails, listMails } from '../../../server/sandbox/mails.ts';
import { openWorld } from '../../../server/sandbox/open-world.ts';
import { mailSource } from '../../../server/sandbox/pages/mail-source.ts';
import type { World } from '../../../server/sandbox/world.ts';

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

  it('takes a batch whole or, when permissive, the valid part of it', async () => {
    const bad = { ...letter, to: 'nobody' };
    const strict = await resend.batch.send([letter, bad]);
    expect(strict.error).toMatchObject({ statusCode: 422, name: 'validation_error' });
    expect(listMails(world)).toHaveLength(0);
    const permissive = await resend.batch.send([letter, bad], { batchValidation: 'permissive' });
    expect(permissive.data?.data).toHaveLength(1);
    expect(permissive.data?.errors).toEqual([{ index: 1, message: expect.stringContaining('`to`') }]);
    expect(listMails(world)).toHaveLength(1);
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

  it.each([
    ['rate_limited', { statusCode: 429, name: 'rate_limit_exceeded' }, 0],
    ['server_error', { statusCode: 500, name: 'internal_server_error' }, 0],
    ['garbage', { statusCode: 502, name: 'application_error' }, 0],
    ['timeout_before', { statusCode: null, name: 'application_error' }, 0],
    ['timeout_after', { statusCode: null, name: 'application_error' }, 1],
  ] as const)(
    'fails the next mail with %s, and the retry with its key arrives once',
    async (kind, error, kept) => {
      failNextMails(world, kind, 1);
      const failed = await resend.emails.send(letter, { idempotencyKey: 'k1' });
      expect(failed.error).toMatchObject(error);
      expect(listMails(world)).toHaveLength(kept);
      const retried = await resend.emails.send(letter, { idempotencyKey: 'k1' });
      expect(retried.error).toBeNull();
      expect(listMails(world)).toHaveLength(1);
    },
  );

  it('writes the source as a message that mail programs read', async () => {
    await resend.emails.send(letter);
    const [mail] = listMails(world);
    const source = mail ? mailSource(mail) : '';
    expect(source).toContain('Subject: =?utf-8?B?R3LDvMOfZSAmIHJlY2VpcHRz?=\r\n');
    expect(source).toContain('Content-Type: multipart/alternative;');
    expect(source.match(/Content-Type: text\/(plain|html)/g)).toHaveLength(2);
  });
});
