import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { verifyChain } from '../../server/audit/verify.ts';
import { Account } from '../../server/database/entities/account.ts';
import { Subscription } from '../../server/database/entities/billing.ts';
import { AuditEntry, Email, StripeEvent } from '../../server/database/entities/journal.ts';
import { inWords } from '../../server/stripe/repair/drift.ts';
import { reconcile } from '../../server/stripe/repair/reconcile.ts';
import { accountsAfter, sweep } from '../../server/stripe/repair/sweep.ts';
import { formatId } from '../../shared/ids.ts';
import { runCli } from '../support/cli.ts';
import { addAccount, addCustomer, type Bench, deliver, openBench, subscription } from '../support/stripe.ts';

let bench: Bench;
beforeAll(async () => {
  bench = await openBench();
});
afterEach(() => bench.stripe.interfere(() => undefined));
afterAll(() => bench.close());

const BY = { by: 'reconciler' };
const DAY_MS = 86_400_000;
const em = () => bench.db.orm.em.fork();
const rowOf = (accountId: string) => em().findOne(Subscription, { accountId });
const auditOf = (accountId: string) => em().find(AuditEntry, { accountId }, { orderBy: { position: 'asc' } });
const cli = (...args: string[]) =>
  runCli({ databaseUrl: bench.db.url, stripeUrl: bench.stripe.url }, ...args);

/** Every row of every table. */
async function everything(): Promise<unknown> {
  const { rows: tables } = await bench.db.pool.query<{ name: string }>(
    `select format('%I.%I', table_schema, table_name) as name from information_schema.tables
where table_schema = 'public' order by 1`,
  );
  const contents = [];
  for (const { name } of tables) {
    const { rows } = await bench.db.pool.query(`select t::text as row from ${name} t order by 1`);
    contents.push([name, rows]);
  }
  return contents;
}

/** An account in step with Stripe. */
async function inStep(members: Parameters<typeof subscription>[0] = {}) {
  const { accountId, customer } = await addCustomer(bench);
  const sub = bench.stripe.put(subscription({ customer, ...members }));
  await reconcile(bench, accountId, BY);
  return { accountId, customer, sub };
}

const upgraded = subscription({ lookup_key: 'driftstack_api_scale_annual' })['items'];

describe('reconcile', () => {
  it('finds nothing and writes nothing where we hold what Stripe holds', async () => {
    const { accountId } = await inStep();
    const before = await everything();
    expect(await reconcile(bench, accountId, BY)).toEqual([]);
    expect(await everything()).toEqual(before);
  });

  it('says in words what differs, repairs it, and audits the repair once', async () => {
    const { accountId, sub } = await inStep();
    bench.stripe.change(sub.id, { items: upgraded, status: 'past_due', cancel_at: 1_780_272_000 });
    const differences = await reconcile(bench, accountId, BY);
    expect(differences.map(inWords)).toEqual([
      "tier: ours api_builder, Stripe's api_scale",
      "status: ours active, Stripe's past_due",
      "billing period: ours monthly, Stripe's annual",
      "ends at: ours none, Stripe's 2026-06-01T00:00:00Z",
    ]);
    expect(await rowOf(accountId)).toMatchObject({ tier: 'api_scale', status: 'past_due', version: 2 });
    expect(await reconcile(bench, accountId, BY)).toEqual([]);
    const repairs = (await auditOf(accountId)).filter(({ action }) => action === 'operator.reconciled');
    expect(repairs).toHaveLength(2);
    expect(repairs.at(-1)).toMatchObject({ actorType: 'system', payload: { by: 'reconciler', differences } });
    const change = (await auditOf(accountId)).findLast(
      ({ action }) => action === 'subscription.tier_changed',
    );
    expect(change?.payload).toMatchObject({
      from: 'api_builder',
      to: 'api_scale',
      reconciled_by: 'reconciler',
    });
    expect(await verifyChain(bench.db, accountId)).toBeNull();
  });

  it('shows in a dry run what it would repair, and changes nothing here or at Stripe', async () => {
    const { accountId, customer, sub } = await inStep();
    bench.stripe.change(sub.id, { items: upgraded });
    const second = bench.stripe.put(subscription({ customer }));
    const before = await everything();
    const calls = bench.stripe.calls.length;
    const alarms: string[] = [];
    const deps = { ...bench, onAlarm: ({ kind }: { kind: string }) => void alarms.push(kind) };
    const seen = await reconcile(deps, accountId, { ...BY, dryRun: true });
    expect(seen.map(({ kind }) => kind)).toEqual(['tier', 'billing_period', 'surplus_subscription']);
    expect(seen.at(-1)).toMatchObject({ id: second.id });
    expect(await everything()).toEqual(before);
    expect(bench.stripe.calls.slice(calls).map(({ method }) => method)).not.toContain('DELETE');
    expect(bench.stripe.calls.slice(calls).map(({ method }) => method)).not.toContain('POST');
    expect(alarms).toEqual([]);
    expect(await reconcile(deps, accountId, BY)).toEqual(seen);
    expect(alarms).toEqual(['duplicate_subscription']);
  });

  it('does not call drift what a waiting event explains', async () => {
    const { accountId, sub } = await inStep();
    bench.stripe.change(sub.id, { items: upgraded });
    const id = await deliver(bench, 'customer.subscription.updated', sub);
    await em().nativeUpdate(StripeEvent, { id }, { accountId });
    expect(await reconcile(bench, accountId, BY)).toEqual([]);
    expect(await em().findOne(StripeEvent, id)).toMatchObject({ state: 'done' });
    expect((await auditOf(accountId)).at(-1)?.action).not.toBe('operator.reconciled');
  });

  it('is not held up by an event that cannot be processed', async () => {
    const { accountId, customer, sub } = await inStep();
    bench.stripe.change(sub.id, { items: upgraded });
    bench.stripe.interfere(({ path }) =>
      path.startsWith('/v1/invoices/') ? { kind: 'answer', status: 500, body: '{}' } : undefined,
    );
    const id = await deliver(bench, 'invoice.paid', { id: 'in_poison', object: 'invoice', customer });
    await em().nativeUpdate(StripeEvent, { id }, { accountId });
    await reconcile(bench, accountId, BY);
    expect(await rowOf(accountId)).toMatchObject({ tier: 'api_scale' });
    expect(await em().findOne(StripeEvent, id)).toMatchObject({ state: 'received' });
  });

  it('ends what a customer had whom Stripe has deleted without a word', async () => {
    const { accountId, customer } = await inStep();
    bench.stripe.put({ id: customer, object: 'customer', deleted: true });
    const differences = await reconcile(bench, accountId, BY);
    expect(differences.map(inWords)).toEqual([
      `customer: ours ${customer}, Stripe's none`,
      "status: ours active, Stripe's canceled",
    ]);
    expect(await rowOf(accountId)).toMatchObject({ status: 'canceled', entitled: false });
  });

  it('ends nothing when Stripe has never heard of the customer, as with the key of another account', async () => {
    const { accountId } = await inStep();
    bench.stripe.interfere(({ path }) =>
      path.startsWith('/v1/customers/')
        ? {
            kind: 'answer',
            status: 404,
            body: '{"error":{"type":"invalid_request_error","code":"resource_missing","message":"No such customer"}}',
          }
        : undefined,
    );
    await expect(reconcile(bench, accountId, BY)).rejects.toThrow('does not know the customer');
    expect(await rowOf(accountId)).toMatchObject({ status: 'active', entitled: true });
  });
});

describe('the nightly sweep', () => {
  const run = (signal = new AbortController().signal, deps: Partial<Bench> = {}) =>
    sweep({ ...bench, ...deps, throttle: async () => {}, onDrift: (found) => drift.push(...found) }, signal);
  const drift: { kind: string }[] = [];
  const nextNight = () => {
    bench.time.now = new Date(bench.time.now.getTime() + DAY_MS);
  };

  it('compares every account that can still change, once a night, in one of several processes', async () => {
    const none = await addAccount(bench);
    const over = await inStep();
    bench.stripe.change(over.sub.id, { status: 'canceled' });
    await reconcile(bench, over.accountId, BY);
    const unheard = await addCustomer(bench);
    bench.stripe.put(subscription({ customer: unheard.customer }));
    const asked = await accountsAfter(bench.db, { after: null, now: bench.clock.now() });
    expect(asked).toContain(unheard.accountId);
    expect(asked).not.toContain(over.accountId);
    expect(asked).not.toContain(none);

    const other = { db: await bench.another() };
    const runs = await Promise.all([run(), run(undefined, other), run()]);
    const [swept, ...rest] = runs.filter((result) => result !== null);
    expect(rest).toEqual([]);
    expect(swept).toMatchObject({ checked: asked.length, failed: 0 });
    expect(await rowOf(unheard.accountId)).toMatchObject({ tier: 'api_builder' });
    expect(drift.map(({ kind }) => kind)).toContain('subscription');
    expect(await run()).toBeNull();
  });

  it('counts an account that cannot be compared, and goes on', async () => {
    nextNight();
    const bad = await inStep();
    const good = await inStep();
    bench.stripe.change(good.sub.id, { items: upgraded });
    await em().nativeUpdate(Account, bad.accountId, { stripeCustomerId: `cus_gone_${Date.now()}` });
    expect(await run()).toMatchObject({ failed: 1 });
    expect(await rowOf(good.accountId)).toMatchObject({ tier: 'api_scale' });
    await em().nativeUpdate(Account, bad.accountId, { stripeCustomerId: bad.customer });
  });

  it('goes on where it stopped, after a stop and after an outage of Stripe', async () => {
    nextNight();
    const stop = new AbortController();
    let turns = 0;
    const stopping = async () => void (++turns === 3 && stop.abort());
    expect(await sweep({ ...bench, throttle: stopping }, stop.signal)).toBeNull();

    let calls = 0;
    bench.stripe.interfere(({ path }) =>
      path.startsWith('/v1/customers/') && ++calls > 2
        ? { kind: 'answer', status: 500, body: '{}' }
        : undefined,
    );
    await expect(run()).rejects.toThrow();
    bench.stripe.interfere(() => undefined);
    expect(await run()).toBeNull();
    bench.time.now = new Date(bench.time.now.getTime() + 300_000);
    const asked: string[] = [];
    bench.stripe.interfere(({ path }) => void asked.push(path));
    const swept = await run();
    const all = await accountsAfter(bench.db, { after: null, now: bench.clock.now() });
    expect(swept?.checked).toBe(all.length);
    const compared = new Set(asked.filter((path) => path.startsWith('/v1/customers/')));
    const withCustomer = await em().count(Account, { id: { $in: all }, stripeCustomerId: { $ne: null } });
    expect(compared.size).toBe(withCustomer - 4);
  });

  it('leaves one account of which Stripe tells nothing to the next night, and compares those after it', async () => {
    nextNight();
    const bad = await inStep();
    const good = await inStep();
    bench.stripe.change(good.sub.id, { items: upgraded });
    let tries = 0;
    bench.stripe.interfere(({ path }) => {
      if (path !== `/v1/customers/${bad.customer}`) return undefined;
      tries += 1;
      return { kind: 'answer', status: 500, body: '{}' };
    });
    for (let turn = 1; turn < 3; turn++) {
      await expect(run()).rejects.toThrow();
      bench.time.now = new Date(bench.time.now.getTime() + 300_000);
      expect(await rowOf(good.accountId)).toMatchObject({ tier: 'api_builder' });
    }
    expect(await run()).toMatchObject({ failed: 1 });
    expect(tries).toBeGreaterThanOrEqual(3);
    bench.stripe.interfere(() => undefined);
    expect(await rowOf(good.accountId)).toMatchObject({ tier: 'api_scale' });
    nextNight();
    expect(await run()).toMatchObject({ failed: 0 });
  });
});

describe('the command reconcile', { timeout: 120_000 }, () => {
  it('shows the differences of one account, then repairs them', async () => {
    const { accountId, sub } = await inStep();
    bench.stripe.change(sub.id, { items: upgraded });
    const id = formatId('acc', accountId);
    const before = await everything();
    const dry = await cli('reconcile', id, '--dry-run');
    expect(dry).toMatchObject({ code: 0, err: '' });
    expect(dry.out).toContain(`${id}\n  tier: ours api_builder, Stripe's api_scale\n`);
    expect(await everything()).toEqual(before);
    const repaired = await cli('reconcile', id, '--json');
    expect(repaired.json()).toMatchObject({
      dry_run: false,
      checked: 1,
      failed: [],
      differing: [
        {
          account_id: id,
          differences: [
            { kind: 'tier', ours: 'api_builder', stripe: 'api_scale' },
            { kind: 'billing_period' },
          ],
        },
      ],
    });
    expect(await rowOf(accountId)).toMatchObject({ tier: 'api_scale' });
    expect((await cli('reconcile', id)).out).toContain('0 differed');
  });

  it('names an account that does not exist, and an id that is none', async () => {
    const unknown = await cli('reconcile', 'acc_01890a5d-ac96-774b-bcce-b302099a8057');
    expect(unknown).toMatchObject({ code: 1, out: '' });
    expect(unknown.err).toContain('no such account');
    expect((await cli('reconcile', 'nonsense')).code).toBe(2);
  });

  it('goes through all accounts without one', async () => {
    const { accountId, sub } = await inStep();
    bench.stripe.change(sub.id, { status: 'past_due' });
    const all = await cli('reconcile', '--json');
    expect(all.code).toBe(0);
    // The command goes by the clock of the machine.
    const { length: checked } = await accountsAfter(bench.db, { after: null, now: new Date() });
    expect(all.json()).toMatchObject({ checked, failed: [] });
    expect(await rowOf(accountId)).toMatchObject({ status: 'past_due' });
    expect(await em().count(Email, { accountId })).toBeGreaterThan(0);
  });

  it('goes on past an account of which Stripe tells nothing, and stops when Stripe is away', async () => {
    const [bad, good] = [await inStep(), await inStep()];
    bench.stripe.change(good.sub.id, { items: upgraded });
    const failing = (fails: (path: string) => boolean) =>
      bench.stripe.interfere(({ path }) =>
        fails(path) ? { kind: 'answer', status: 500, body: '{}' } : undefined,
      );
    failing((path) => path === `/v1/customers/${bad.customer}`);
    const one = await cli('reconcile', '--json');
    expect(one.code).toBe(1);
    expect(one.json()).toMatchObject({ failed: [{ account_id: formatId('acc', bad.accountId) }] });
    expect(await rowOf(good.accountId)).toMatchObject({ tier: 'api_scale' });

    let customers = 0;
    failing((path) => path.startsWith('/v1/customers/') && ++customers > 0);
    const away = await cli('reconcile');
    expect(away.code).toBe(1);
    expect(away.err).toContain('Stripe sent an answer that is not its own');
    // Three accounts, each with the one repetition of the SDK.
    expect(customers).toBe(6);
  });
});
