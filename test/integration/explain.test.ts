import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { append } from '../../server/audit/append.ts';
import { StripeEvent } from '../../server/database/entities/journal.ts';
import { uuidv7 } from '../../server/database/uuid.ts';
import { readTimeline } from '../../server/operator/timeline.ts';
import { reconcile } from '../../server/stripe/repair/reconcile.ts';
import { formatId } from '../../shared/ids.ts';
import { runCli } from '../support/cli.ts';
import { processEvents } from '../support/processing.ts';
import {
  addAccount,
  addCustomer,
  type Bench,
  deliver,
  NOW,
  openBench,
  subscription,
} from '../support/stripe.ts';

let bench: Bench;
beforeAll(async () => {
  bench = await openBench();
});
afterAll(() => bench.close());

const cli = (...args: string[]) =>
  runCli({ databaseUrl: bench.db.url, stripeUrl: bench.stripe.url }, ...args);
const later = (minutes: number) => {
  bench.time.now = new Date(NOW.getTime() + minutes * 60_000);
};

it('explains from the first call to the last repair why an account is on its tier', {
  timeout: 120_000,
}, async () => {
  const { accountId, customer } = await addCustomer(bench);
  await bench.db.transaction((tx) =>
    append(tx, {
      accountId,
      action: 'checkout_session.started',
      targetResourceId: 'cs_1',
      payload: { tier: 'api_builder', request_id: 'req_1' },
      actor: { type: 'customer', accountId, keyId: uuidv7(NOW) },
      dedupeKey: 'started:cs_1',
      now: NOW,
    }),
  );
  later(1);
  const sub = bench.stripe.put(subscription({ customer }));
  const created = await deliver(bench, 'customer.subscription.created', sub);
  await processEvents(bench, [created]);
  later(2);
  const again = await deliver(bench, 'customer.subscription.updated', sub);
  await processEvents(bench, [again]);
  later(3);
  bench.stripe.change(sub.id, {
    items: subscription({ lookup_key: 'driftstack_api_scale_monthly' })['items'],
  });
  await reconcile(bench, accountId, { by: 'reconciler' });
  later(4);
  const dead = await deliver(bench, 'invoice.paid', { id: 'in_1', object: 'invoice', customer });
  const reason = { accountId, state: 'dead' as const, attempts: 36, error: 'Stripe was away' };
  await bench.db.orm.em.fork().nativeUpdate(StripeEvent, { id: dead }, reason);

  const id = formatId('acc', accountId);
  const { code, out, err } = await cli('explain', id);
  expect({ code, err }).toEqual({ code: 0, err: '' });
  const [head, tier, plan, pack, waiting, blank, ...lines] = out.trimEnd().split('\n');
  expect(head).toContain(`${id}  `);
  expect(head).toContain(customer);
  expect(tier).toBe('tier          api_scale');
  expect(plan).toBe('subscription  api_scale monthly, active, period until 2026-06-01T00:00:00Z');
  expect(pack).toBe('trial pack    never bought');
  expect(waiting).toBe('waiting       0 events, 1 given up, 2 mails unsent');
  expect(blank).toBe('');
  const parts = lines.map((line) => line.split(/ {2,}/));
  expect(parts.map(([at, source, name]) => [at?.slice(14, 16), source, name])).toEqual([
    ['00', 'api', 'checkout_session.started'],
    ['01', 'stripe', created],
    ['01', 'audit', 'subscription.tier_changed'],
    ['01', 'audit', 'subscription.status_changed'],
    ['01', 'mail', 'subscription_started'],
    ['02', 'stripe', again],
    ['03', 'audit', 'subscription.tier_changed'],
    ['03', 'audit', 'operator.reconciled'],
    ['03', 'mail', 'plan_changed'],
    ['04', 'stripe', dead],
  ]);
  const texts = parts.map(([, , , text]) => text);
  expect(texts[1]).toContain('changed: subscription.tier_changed, subscription.status_changed');
  expect(texts[2]).toBe(
    `from none to api_builder by us, because of ${created} (customer.subscription.created)`,
  );
  expect(texts[5]).toContain('was carried out and left no audit entry');
  expect(texts[6]).toContain('from api_builder to api_scale reconciled by reconciler, by us');
  expect(texts[7]).toBe("tier: ours api_builder, Stripe's api_scale; by reconciler, by us");
  expect(texts[9]).toContain('was given up after 36 tries: Stripe was away');

  const json = (await cli('explain', id, '--json')).json();
  expect(json).toMatchObject({ account_id: id, tier: 'api_scale', dead_events: 1, pending_tier: null });
  expect(json).toMatchObject({ timeline: { length: lines.length } });
});

it('explains an account where nothing has happened, and names one that does not exist', async () => {
  const accountId = await addAccount(bench);
  const timeline = await readTimeline(bench.db, accountId, NOW);
  expect(timeline).toMatchObject({ tier: 'free', happenings: [], state: { subscription: null } });
  await expect(readTimeline(bench.db, uuidv7(NOW), NOW)).rejects.toThrow('no such account');
});

it('knows an account by its address, in whatever case, as every command does', async () => {
  const accountId = await addAccount(bench);
  const address = `${accountId}@DRIFTSTACK.test`;
  const { code, json } = await cli('explain', address, '--json');
  expect(code).toBe(0);
  expect(json()).toMatchObject({ account_id: formatId('acc', accountId), email: address.toLowerCase() });
  // Each answers what it answers for the id, and that is less than it would for all accounts.
  const other = await addCustomer(bench);
  await deliver(bench, 'customer.updated', { id: other.customer, object: 'customer' });
  const issued = (await cli('keys', 'issue', address, '--json')).json();
  expect(issued).toMatchObject({ account_id: formatId('acc', accountId) });
  const answers = async (...command: string[]) => {
    const [byAddress, byId] = await Promise.all(
      [address, formatId('acc', accountId)].map((word) => cli(...command, word, '--json')),
    );
    expect(byAddress).toMatchObject({ code: 0, out: byId?.out });
    return byAddress?.json();
  };
  expect(await answers('keys', 'list')).toMatchObject({ data: [{ name: 'issued by cli' }] });
  expect(await answers('audit', 'verify')).toMatchObject({ checked: 1 });
  expect(await answers('events', 'list', '--account')).toEqual({ data: [] });
  expect(await answers('reconcile', '--dry-run')).toMatchObject({ checked: 1 });
  const file = join(await mkdtemp(join(tmpdir(), 'driftstack-explain-')), 'audit.json');
  try {
    const output = ['--output', file, '--format', 'json'];
    expect(await cli('audit', 'export', address, ...output)).toMatchObject({ code: 0 });
    expect(await readFile(file, 'utf8')).toContain('api_key.');
  } finally {
    await rm(dirname(file), { recursive: true });
  }
  expect(await cli('explain', 'nobody@driftstack.test')).toMatchObject({ code: 1 });
  expect(await cli('explain', 'nobody')).toMatchObject({ code: 2 });
}, 90_000);
