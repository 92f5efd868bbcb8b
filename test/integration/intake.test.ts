import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AccountSync } from '../../server/database/entities/account.ts';
import { StripeEvent } from '../../server/database/entities/journal.ts';
import { takeIn } from '../../server/stripe/intake.ts';
import { ProblemError } from '../../shared/errors.ts';
import {
  addCustomer,
  type Bench,
  eventBody,
  NOW,
  openBench,
  sign,
  WEBHOOK_SECRET,
} from '../support/stripe.ts';

let bench: Bench;
beforeAll(async () => {
  bench = await openBench();
});
afterAll(() => bench.close());

const take = (body: string | Buffer, signature: string | undefined) =>
  takeIn(
    { db: bench.db, clock: bench.clock, secrets: ['whsec_new', WEBHOOK_SECRET], livemode: false },
    { rawBody: Buffer.from(body), signature },
  );
const stored = () => bench.db.orm.em.fork().find(StripeEvent, {});
/** The events whose account is to be found out, and for each account how often it was wanted to be looked at. */
const due = async (): Promise<{ ownerless: string[]; wanted: Map<string, number> }> => {
  const em = bench.db.orm.em.fork();
  const ownerless = await em.find(StripeEvent, { dueAt: { $ne: null } });
  const accounts = await em.find(AccountSync, { dueAt: { $ne: null } });
  return {
    ownerless: ownerless.map(({ id }) => id),
    wanted: new Map(accounts.map(({ accountId, wanted }) => [accountId, wanted])),
  };
};

describe('takeIn', () => {
  it('stores the event byte for byte and due, however often it is delivered', async () => {
    const { id, body } = eventBody('invoice.paid', { id: 'in_1', object: 'invoice', customer: 'cus_1' });
    const spaced = body.replace('{', '{  ');
    const outcomes = await Promise.all(Array.from({ length: 10 }, () => take(spaced, sign(spaced))));
    expect(outcomes.filter((outcome) => outcome === 'stored')).toHaveLength(1);
    expect(outcomes.filter((outcome) => outcome === 'duplicate')).toHaveLength(9);
    const event = (await stored()).find((one) => one.id === id);
    expect(event).toMatchObject({
      type: 'invoice.paid',
      objectId: 'in_1',
      customerId: 'cus_1',
      state: 'received',
    });
    expect(Buffer.from(event?.raw ?? '').toString()).toBe(spaced);
    expect((await due()).ownerless).toEqual([id]);
  });

  it('makes the account of its customer due, once however often it is delivered, and once more for the next', async () => {
    const { accountId, customer } = await addCustomer(bench);
    for (const wanted of [1, 2]) {
      const { id, body } = eventBody('invoice.paid', { id: 'in_1', object: 'invoice', customer });
      for (let n = 0; n < 3; n += 1) await take(body, sign(body));
      expect((await stored()).find((one) => one.id === id)).toMatchObject({ accountId, dueAt: null });
      expect((await due()).wanted).toEqual(new Map([[accountId, wanted]]));
    }
  });

  it('keeps the customer of a customer event, and of an expanded reference', async () => {
    const deleted = eventBody('customer.deleted', { id: 'cus_gone', object: 'customer' });
    const expanded = eventBody('invoice.paid', {
      object: 'invoice',
      customer: { id: 'cus_2', object: 'customer' },
    });
    for (const { body } of [deleted, expanded]) await take(body, sign(body));
    const events = await stored();
    expect(events.find(({ id }) => id === deleted.id)?.customerId).toBe('cus_gone');
    expect(events.find(({ id }) => id === expanded.id)?.customerId).toBe('cus_2');
  });

  it.each([
    ['of the other mode', 'invoice.paid', { livemode: true }],
    ['of a connected account', 'invoice.paid', { account: 'acct_1' }],
    ['of a type we do not handle', 'invoice.created', {}],
  ])('stores an event %s as ignored, and nothing is due', async (_, type, members) => {
    const { id, body } = eventBody(type, { id: 'in_2', object: 'invoice' }, members);
    expect(await take(body, sign(body))).toBe('ignored');
    const event = (await stored()).find((one) => one.id === id);
    expect(event).toMatchObject({ state: 'ignored', error: expect.any(String) });
    expect((await due()).ownerless).not.toContain(id);
  });

  const { body } = eventBody('invoice.paid', { id: 'in_3', object: 'invoice' });
  const minutes = (n: number) => new Date(NOW.getTime() + n * 60_000);
  it.each([
    ['a missing signature', body, undefined],
    ['a wrong signature', body, sign(body, NOW, 'whsec_wrong')],
    ['a stale signature', body, sign(body, minutes(-6))],
    ['a signature from the future', body, sign(body, minutes(6))],
    ['a doubled signature header', body, `${sign(body)}, ${sign(body)}`],
    ['an altered body', body.replace('in_3', 'in_4'), sign(body)],
    ...['null', '[]', '"text"', '7', '{}', '{', '', '{"object":"event"}'].map(
      (text): [string, string, string] => [`a signed ${text || 'nothing'}`, text, sign(text)],
    ),
    ...[
      body.replace('"evt_', '"evil_'),
      body.replace('"livemode":false', '"livemode":"false"'),
      body.replace('"invoice.paid"', '"invoice.\\u0000paid"'),
      body.replace(/"data":.*/, '"data":null}'),
    ].map((text): [string, string, string] => [
      `a signed event with a wrong member: ${text}`,
      text,
      sign(text),
    ]),
  ])('answers 400 to %s and stores nothing', async (_, text, signature) => {
    const before = (await stored()).length;
    const error = await take(text, signature).catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(ProblemError);
    expect(error).toMatchObject({ status: 400 });
    expect(await stored()).toHaveLength(before);
  });
});
