import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { changeEmail } from '../../server/billing/change-email.ts';
import { createCustomer } from '../../server/billing/customer.ts';
import type { Tx } from '../../server/database/connection.ts';
import { Account } from '../../server/database/entities/account.ts';
import { AuditEntry, Email } from '../../server/database/entities/journal.ts';
import { uuidv7 } from '../../server/database/uuid.ts';
import { readTimeline } from '../../server/operator/timeline.ts';
import { reconcile } from '../../server/stripe/repair/reconcile.ts';
import { runCli } from '../support/cli.ts';
import { type LocalBench, openLocalBench } from '../support/local-stripe.ts';
import { addAccount } from '../support/stripe.ts';

let bench: LocalBench;
const kinds: string[] = [];
beforeAll(async () => {
  bench = await openLocalBench(({ kind }) => void kinds.push(kind));
});
beforeEach(() => void kinds.splice(0));
afterAll(() => bench.close());

const em = () => bench.db.orm.em.fork();
const sdk = () => bench.gateway.sdk;
const emailOf = async (accountId: string) => (await em().findOneOrFail(Account, accountId)).email;
const changesOf = async (accountId: string) =>
  (await em().find(AuditEntry, { accountId, action: 'account.email_changed' })).map(
    ({ actorType, payload: { from, to } }) => ({ actorType, from, to }),
  );
const refusalsOf = async (accountId: string) =>
  (await em().find(AuditEntry, { accountId, action: 'account.email_change_refused' })).map(
    ({ payload }) => payload,
  );
const mailsOf = async (accountId: string) =>
  (await em().find(Email, { accountId })).map(({ template, toAddress }) => [template, toAddress]);

async function addBuyer() {
  const accountId = await addAccount(bench);
  const call = { accountId, keyId: uuidv7(new Date()), requestId: 'req_1', idempotencyKey: null };
  await createCustomer(bench, bench.gateway, call, await em().findOneOrFail(Account, accountId));
  const { stripeCustomerId, email } = await em().findOneOrFail(Account, accountId);
  return { accountId, customer: String(stripeCustomerId), email };
}
/** Stripe, where this happens once right after it took the address. */
function afterwards(happens: () => Promise<unknown>) {
  const calls = bench.gateway.within(10_000);
  let happened = false;
  return {
    setCustomerEmail: async (...given: Parameters<typeof calls.setCustomerEmail>) => {
      const customer = await calls.setCustomerEmail(...given);
      if (!happened) await happens();
      happened = true;
      return customer;
    },
  };
}
const fresh = () => `Ada.${uuidv7(new Date())}@Example.com`;

describe('the address that a customer sets in the portal', () => {
  it('is followed, in lower case; the old one is told, and mails go to the new one', async () => {
    const { accountId, customer, email: old } = await addBuyer();
    const email = fresh();
    await sdk().customers.update(customer, { email });
    await bench.catchUp();
    const now = email.toLowerCase();
    expect(await emailOf(accountId)).toBe(now);
    expect(await changesOf(accountId)).toEqual([{ actorType: 'system', from: old, to: now }]);
    const session = await sdk().checkout.sessions.create({
      ...{ mode: 'payment', customer, success_url: 'https://your.app/thanks' },
      line_items: [{ price: await bench.gateway.priceId('driftstack_trial_pack'), quantity: 1 }],
    });
    await bench.pay(session.id);
    await bench.catchUp();
    expect(await mailsOf(accountId)).toEqual([
      ['email_changed', old],
      ['trial_pack_ready', now],
    ]);
    // And back again: each change is a fact of its own.
    await sdk().customers.update(customer, { email: old });
    await bench.catchUp();
    expect(await emailOf(accountId)).toBe(old);
    expect(await changesOf(accountId)).toHaveLength(2);
  });

  it('can be tried on the local portal’s page, which refuses what is none', async () => {
    const { accountId, customer } = await addBuyer();
    const { portalConfigurationId: configuration } = bench.setUp;
    const link = await sdk().billingPortal.sessions.create({ customer, configuration });
    const visit = (await fetch(link.url, { redirect: 'manual' })).headers.get('location') ?? '';
    const address = `${bench.localStripe.url}${visit}`;
    const field = new RegExp(`<input[^>]* name="email"[^>]* value="${await emailOf(accountId)}"`);
    expect(await (await fetch(address)).text()).toMatch(field);
    const save = async (email: string) => {
      const body = new URLSearchParams({ email });
      const headers = { origin: bench.localStripe.url };
      const saved = await fetch(`${address}/email`, { method: 'POST', body, headers });
      return await saved.text();
    };
    expect(await save('nobody at home')).toContain('no e-mail address');
    const email = fresh().toLowerCase();
    expect(await save(email)).toContain('Your e-mail address was changed.');
    const [told] = (await sdk().events.list({ type: 'customer.updated', limit: 1 })).data;
    expect(told?.data.previous_attributes).toEqual({ email: await emailOf(accountId) });
    await bench.catchUp();
    expect(await emailOf(accountId)).toBe(email);
  });

  it('cannot be changed on a portal that does not let customers do so', async () => {
    const { customer, email } = await addBuyer();
    for (const update of [
      { enabled: true, allowed_updates: ['address' as const] },
      { enabled: false, allowed_updates: ['email' as const] },
    ]) {
      const { id: configuration } = await sdk().billingPortal.configurations.create({
        features: { customer_update: update, invoice_history: { enabled: true } },
      });
      const link = await sdk().billingPortal.sessions.create({ customer, configuration });
      const visit = (await fetch(link.url, { redirect: 'manual' })).headers.get('location') ?? '';
      const address = `${bench.localStripe.url}${visit}`;
      expect(await (await fetch(address)).text()).not.toContain('name="email"');
      const body = new URLSearchParams({ email: fresh() });
      const headers = { origin: bench.localStripe.url };
      const saved = await fetch(`${address}/email`, { method: 'POST', body, headers });
      expect(await saved.text()).toContain('switched off');
      expect(await bench.gateway.readCustomer(customer)).toMatchObject({ email });
    }
  });

  it('is found by the comparison when no event tells of it, and told once', async () => {
    const { accountId, customer } = await addBuyer();
    const email = fresh().toLowerCase();
    await sdk().customers.update(customer, { email });
    for (let n = 0; n < 2; n++) await reconcile(bench, accountId, { by: 'reconciler' });
    expect(await emailOf(accountId)).toBe(email);
    // Heard of late: it is known by now.
    await bench.catchUp();
    expect(await emailOf(accountId)).toBe(email);
    expect(await changesOf(accountId)).toHaveLength(1);
    expect(await mailsOf(accountId)).toHaveLength(1);
  });

  it('is not taken where it is empty, none, or another account’s; a person is told once', async () => {
    const other = await addBuyer();
    const refused = [
      ['', null, 'missing'],
      ['no address', 'no address', 'invalid'],
      [other.email.toUpperCase(), other.email, 'taken'],
    ] as const;
    for (const [email, address, because] of refused) {
      const { accountId, customer, email: old } = await addBuyer();
      await sdk().customers.update(customer, { email });
      await bench.catchUp();
      await reconcile(bench, accountId, { by: 'reconciler' });
      expect(await emailOf(accountId)).toBe(old);
      expect(await refusalsOf(accountId)).toEqual([
        expect.objectContaining({ kept: old, refused: address, because }),
      ]);
      const { happenings } = await readTimeline(bench.db, accountId, bench.clock.now());
      expect(happenings.filter(({ text }) => text.startsWith('customer.updated'))).toEqual([
        expect.objectContaining({ text: expect.stringContaining('account.email_change_refused') }),
      ]);
      expect(await changesOf(accountId)).toEqual([]);
      expect(kinds.splice(0)).toEqual(['address_refused']);
      // Put right at Stripe by hand, it is the one that we have: nothing has changed.
      await sdk().customers.update(customer, { email: old });
      await bench.catchUp();
      expect(await emailOf(accountId)).toBe(old);
      expect(await changesOf(accountId)).toEqual([]);
      expect(await mailsOf(accountId)).toEqual([]);
      expect(kinds).toEqual([]);
    }
  });

  it('is none of another change of the customer', async () => {
    const { accountId, customer, email } = await addBuyer();
    await sdk().customers.update(customer, { name: 'Ada', email: email.toUpperCase() });
    await bench.catchUp();
    expect(await emailOf(accountId)).toBe(email);
    expect(await changesOf(accountId)).toEqual([]);
    expect(kinds).toEqual([]);
  });
});

describe('the address that an operator sets', () => {
  it('is Stripe’s as well, and no other change of the customer undoes it', async () => {
    const { accountId, customer, email: old } = await addBuyer();
    const to = fresh().toLowerCase();
    const stripe = bench.gateway.within(10_000);
    for (let n = 0; n < 2; n++) await changeEmail({ ...bench, stripe }, accountId, to.toUpperCase());
    await sdk().customers.update(customer, { name: 'Ada' });
    await bench.catchUp();
    await reconcile(bench, accountId, { by: 'reconciler' });
    expect(await bench.gateway.readCustomer(customer)).toMatchObject({ email: to });
    expect(await emailOf(accountId)).toBe(to);
    expect(await changesOf(accountId)).toEqual([{ actorType: 'staff', from: old, to }]);
    expect(await mailsOf(accountId)).toEqual([['email_changed', old]]);
    // An address can come back within the day for which Stripe keeps idempotency keys.
    for (const email of [old, to]) await changeEmail({ ...bench, stripe }, accountId, email);
    expect(await bench.gateway.readCustomer(customer)).toMatchObject({ email: to });
    // The customer changes it back before we hear of either.
    await changeEmail({ ...bench, stripe }, accountId, fresh());
    await sdk().customers.update(customer, { email: to });
    await bench.catchUp();
    expect(await emailOf(accountId)).toBe(to);
  });

  it('is refused for what is none or another account’s, and then nothing has changed', async () => {
    const other = await addBuyer();
    const { accountId, customer, email } = await addBuyer();
    const stripe = bench.gateway.within(10_000);
    const set = (to: string) => changeEmail({ ...bench, stripe }, accountId, to);
    await expect(set('nobody')).rejects.toMatchObject({ status: 400 });
    await expect(set(other.email)).rejects.toMatchObject({ status: 409, code: 'email_taken' });
    await expect(
      changeEmail({ ...bench, stripe }, uuidv7(new Date()), 'a@example.com'),
    ).rejects.toMatchObject({ status: 404 });
    expect(await bench.gateway.readCustomer(customer)).toMatchObject({ email });
    expect(await emailOf(accountId)).toBe(email);
  });

  it('holds nothing of the account while Stripe takes its time', async () => {
    const { accountId, email: old } = await addBuyer();
    const calls = bench.gateway.within(10_000);
    const asked = Promise.withResolvers<void>();
    const answer = Promise.withResolvers<void>();
    const slow = {
      setCustomerEmail: async (...given: Parameters<typeof calls.setCustomerEmail>) => {
        asked.resolve();
        await answer.promise;
        return await calls.setCustomerEmail(...given);
      },
    };
    const to = fresh().toLowerCase();
    const changing = changeEmail({ ...bench, stripe: slow }, accountId, to);
    await asked.promise;
    try {
      await bench.db.transaction((tx) =>
        tx.execute('select 1 from account where id = ? for update nowait', [accountId]),
      );
      const { rows } = await bench.db.pool.query<{ open: number }>(
        `select count(*)::int as open from pg_stat_activity
          where datname = current_database() and state like 'idle in transaction%'`,
      );
      expect(rows).toEqual([{ open: 0 }]);
    } finally {
      answer.resolve();
      await changing;
    }
    expect(await emailOf(accountId)).toBe(to);
    expect(await changesOf(accountId)).toEqual([{ actorType: 'staff', from: old, to }]);
  });

  it('is told once where we hear of it from Stripe before we wrote it down', async () => {
    const { accountId, customer, email: old } = await addBuyer();
    const to = fresh().toLowerCase();
    const changed = await changeEmail({ ...bench, stripe: afterwards(bench.catchUp) }, accountId, to);
    expect(changed).toEqual({ from: old, to });
    await bench.catchUp();
    expect(await bench.gateway.readCustomer(customer)).toMatchObject({ email: to });
    expect(await emailOf(accountId)).toBe(to);
    expect((await changesOf(accountId)).map(({ from, to }) => [from, to])).toEqual([[old, to]]);
    expect(await mailsOf(accountId)).toEqual([['email_changed', old]]);
  });

  it('is not undone, and told once, where a look that had read Stripe before writes after it', async () => {
    const { accountId, customer, email: old } = await addBuyer();
    await sdk().customers.update(customer, { email: fresh() });
    const to = fresh().toLowerCase();
    let isSet = false;
    const slowly = <T extends object>(calls: T): T =>
      new Proxy(calls, {
        get(target, name) {
          const value: unknown = Reflect.get(target, name);
          if (typeof value !== 'function') return value;
          if (name === 'within') return (ms: number) => slowly(Reflect.apply(value, target, [ms]));
          if (name !== 'readCustomer') return value;
          return async (...given: unknown[]) => {
            const read: unknown = await Reflect.apply(value, target, given);
            if (!isSet) {
              isSet = true;
              await changeEmail({ ...bench, stripe: bench.gateway.within(10_000) }, accountId, to);
            }
            return read;
          };
        },
      });
    await reconcile({ ...bench, gateway: slowly(bench.gateway) }, accountId, { by: 'reconciler' });
    expect(isSet).toBe(true);
    expect(await emailOf(accountId)).toBe(to);
    await bench.catchUp();
    expect(await emailOf(accountId)).toBe(to);
    expect(await changesOf(accountId)).toEqual([{ actorType: 'staff', from: old, to }]);
    expect(await mailsOf(accountId)).toEqual([['email_changed', old]]);
  });

  it('is asked for once more where the customer changes it meanwhile', async () => {
    const { accountId, customer } = await addBuyer();
    const theirs = fresh().toLowerCase();
    const to = fresh().toLowerCase();
    await changeEmail(
      {
        ...bench,
        stripe: afterwards(async () => {
          await sdk().customers.update(customer, { email: theirs });
          await bench.catchUp();
        }),
      },
      accountId,
      to,
    );
    expect((await changesOf(accountId)).slice(-1)).toMatchObject([{ actorType: 'staff', from: theirs, to }]);
    expect(await bench.gateway.readCustomer(customer)).toMatchObject({ email: to });
    await bench.catchUp();
    expect(await emailOf(accountId)).toBe(to);
  });

  it('reaches a customer who is made at Stripe meanwhile, the first or one in place of a deleted one', async () => {
    const old = await addBuyer();
    const anew = async () => {
      await sdk().customers.del(old.customer);
      const forgotten = { stripeCustomerId: null, stripeCustomerGeneration: 1 };
      await em().nativeUpdate(Account, { id: old.accountId }, forgotten);
    };
    const first = { accountId: await addAccount(bench), before: async () => {} };
    for (const { accountId, before } of [first, { accountId: old.accountId, before: anew }]) {
      const to = fresh().toLowerCase();
      const call = { accountId, keyId: uuidv7(new Date()), requestId: 'req_1', idempotencyKey: null };
      let made = false;
      // Right before it is written down, since Stripe is not asked about who is no customer.
      const db = {
        ...bench.db,
        transactionOn: async <T>(id: string, fn: (tx: Tx) => Promise<T>): Promise<T> => {
          if (!made) {
            made = true;
            await before();
            await createCustomer(bench, bench.gateway, call, await em().findOneOrFail(Account, accountId));
          }
          return await bench.db.transactionOn(id, fn);
        },
      };
      await changeEmail({ ...bench, db, stripe: bench.gateway.within(10_000) }, accountId, to);
      const { stripeCustomerId, email } = await em().findOneOrFail(Account, accountId);
      expect(email).toBe(to);
      expect(await bench.gateway.readCustomer(String(stripeCustomerId))).toMatchObject({ email: to });
    }
  });

  it('is not ours where another account takes it meanwhile, and a person is told', async () => {
    const { accountId, email: old } = await addBuyer();
    const to = fresh().toLowerCase();
    const taking = afterwards(async () => {
      const other = await addAccount(bench);
      await em().nativeUpdate(Account, { id: other }, { email: to });
    });
    await expect(changeEmail({ ...bench, stripe: taking }, accountId, to)).rejects.toMatchObject({
      code: 'email_taken',
    });
    await bench.catchUp();
    expect(await emailOf(accountId)).toBe(old);
    expect(kinds).toEqual(['address_refused']);
  });

  it('is followed from Stripe when we crash before we wrote it down', async () => {
    const { accountId, email: old } = await addBuyer();
    const to = fresh().toLowerCase();
    const calls = bench.gateway.within(10_000);
    const dying = {
      setCustomerEmail: async (...given: Parameters<typeof calls.setCustomerEmail>) => {
        await calls.setCustomerEmail(...given);
        throw new Error('killed');
      },
    };
    await expect(changeEmail({ ...bench, stripe: dying }, accountId, to)).rejects.toThrow('killed');
    expect(await emailOf(accountId)).toBe(old);
    await bench.catchUp();
    expect(await emailOf(accountId)).toBe(to);
    const next = fresh().toLowerCase();
    await expect(changeEmail({ ...bench, stripe: dying }, accountId, next)).rejects.toThrow('killed');
    await changeEmail({ ...bench, stripe: calls }, accountId, next);
    await bench.catchUp();
    expect(await emailOf(accountId)).toBe(next);
    expect((await changesOf(accountId)).map(({ actorType }) => actorType)).toEqual(['system', 'staff']);
  });

  it('is set by a command', { timeout: 60_000 }, async () => {
    const { accountId, email: old } = await addBuyer();
    const to = fresh();
    const where = { databaseUrl: bench.db.url, stripeUrl: bench.localStripe.url };
    const run = await runCli(where, 'accounts', 'set-email', old, '--email', to, '--json');
    expect(run).toMatchObject({ code: 0 });
    expect(run.json()).toMatchObject({ email: to.toLowerCase(), email_before: old });
    expect(await emailOf(accountId)).toBe(to.toLowerCase());
  });
});
