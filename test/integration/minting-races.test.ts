import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { append } from '../../server/audit/append.ts';
import { verifyChain } from '../../server/audit/verify.ts';
import { startCheckout } from '../../server/billing/checkout.ts';
import type { BillingDeps, MintingCall } from '../../server/billing/deps.ts';
import { CLAIMING } from '../../server/billing/idempotency.ts';
import { BEGIN_PORTAL, startPortal } from '../../server/billing/portal.ts';
import { parseAllowlist } from '../../server/billing/redirects.ts';
import { SESSION_STARTED, TAKE_TURN } from '../../server/billing/turn.ts';
import { connectDatabase } from '../../server/database/connection.ts';
import { Account, IdempotencyKey } from '../../server/database/entities/account.ts';
import { CheckoutAttempt } from '../../server/database/entities/billing.ts';
import { AuditEntry } from '../../server/database/entities/journal.ts';
import { uuidv7 } from '../../server/database/uuid.ts';
import { formatId } from '../../shared/ids.ts';
import { startCrashProxy } from '../faults/support/crash-proxy.ts';
import { untilTrue } from '../support/service.ts';
import { addAccount, addCustomer, type Bench, NOW, openBench } from '../support/stripe.ts';

let bench: Bench;
let deps: BillingDeps;
beforeAll(async () => {
  bench = await openBench();
  const address = 'https://your.app/x';
  const defaults = { checkoutSuccessUrl: address, checkoutCancelUrl: address, portalReturnUrl: address };
  deps = { ...bench, redirects: parseAllowlist(['https://your.app']), defaults };
});
afterEach(() => {
  bench.stripe.interfere(() => undefined);
  bench.time.now = NOW;
});
afterAll(() => bench.close());

const em = () => bench.db.orm.em.fork();
const plan = { tier: 'api_builder', billing_period: 'monthly' } as const;
const callOf = (accountId: string, idempotencyKey: string | null = null): MintingCall => ({
  accountId,
  keyId: uuidv7(NOW),
  requestId: 'req_1',
  idempotencyKey,
});
const sessionsOf = (customer: string) =>
  bench.stripe.all('checkout.session').filter((session) => session['customer'] === customer);
const attemptsOf = (accountId: string) =>
  em().find(CheckoutAttempt, { accountId }, { orderBy: { createdAt: 'asc', id: 'asc' } });
const logOf = async (accountId: string) =>
  (await em().find(AuditEntry, { accountId }, { orderBy: { position: 'asc' } })).map(({ action }) => action);

/** Lets something happen, once, while Stripe carries out a call. */
function meanwhile(path: string, happens: () => Promise<unknown>): void {
  let happened = false;
  bench.stripe.interfere(async (call) => {
    if (happened || call.method !== 'POST' || call.path !== path) return undefined;
    happened = true;
    await happens();
    return undefined;
  });
}

/** Somebody else's entry, at the end of the log. */
const grow = (accountId: string, name = 'other') =>
  bench.db.transaction((tx) =>
    append(tx, {
      accountId,
      action: 'account.email_changed',
      targetResourceId: null,
      payload: {},
      actor: { type: 'system' },
      dedupeKey: `${accountId}:${name}`,
      now: NOW,
    }),
  );

/** What another process does with the account's row locked, while `call` waits for it. */
async function whileHeld<T>(
  accountId: string,
  call: () => Promise<T>,
  happens: (query: (text: string, values: unknown[]) => Promise<unknown>) => Promise<unknown>,
): Promise<T> {
  const other = await (await bench.another()).pool.connect();
  try {
    await other.query('begin');
    await other.query('select 1 from account where id = $1 for no key update', [accountId]);
    const running = call();
    await untilTrue(async () => {
      const { rows } = await bench.db.pool.query(
        "select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()",
      );
      return rows.length > 0;
    });
    await happens((text, values) => other.query(text, values));
    await other.query('commit');
    return await running;
  } finally {
    other.release();
  }
}

describe('what others do while Stripe is asked', () => {
  it.each([1, 3])(
    '%i entries in the audit log: ours comes behind them, and the chain is whole',
    async (count) => {
      const { accountId, customer } = await addCustomer(bench);
      meanwhile('/v1/checkout/sessions', async () => {
        for (let n = 0; n < count; n++) await grow(accountId, String(n));
      });
      const { value } = await startCheckout(deps, callOf(accountId, 'k'), plan);
      expect(sessionsOf(customer).map(({ id }) => id)).toEqual([value.checkout_session_id]);
      expect(await logOf(accountId)).toEqual([
        ...Array.from({ length: count }, () => 'account.email_changed'),
        'checkout_session.started',
      ]);
      expect(await verifyChain(bench.db, accountId)).toBe(null);
    },
  );

  it('an entry while the portal opens, and while a customer is made', async () => {
    const { accountId } = await addCustomer(bench);
    meanwhile('/v1/billing_portal/sessions', () => grow(accountId));
    await startPortal(deps, callOf(accountId, 'k'), {});
    expect(await logOf(accountId)).toEqual(['account.email_changed', 'portal_session.started']);
    expect(await verifyChain(bench.db, accountId)).toBe(null);

    const fresh = await addAccount(bench);
    meanwhile('/v1/customers', () => grow(fresh));
    await startCheckout(deps, callOf(fresh), plan);
    expect(await logOf(fresh)).toEqual([
      'account.email_changed',
      'stripe_customer.created',
      'checkout_session.started',
    ]);
    expect(await verifyChain(bench.db, fresh)).toBe(null);
  });

  it('an attempt that was ended meanwhile is not opened again; the caller gets another session', async () => {
    const { accountId } = await addCustomer(bench);
    meanwhile('/v1/checkout/sessions', () =>
      em().nativeUpdate(CheckoutAttempt, { accountId }, { state: 'expired' }),
    );
    const { value } = await startCheckout(deps, callOf(accountId), plan);
    const states = (await attemptsOf(accountId)).map(({ state, stripeSessionId }) => [
      state,
      stripeSessionId,
    ]);
    expect(states).toHaveLength(2);
    expect(states).toEqual(
      expect.arrayContaining([
        ['expired', null],
        ['open', value.checkout_session_id],
      ]),
    );
    expect(await logOf(accountId)).toEqual(['checkout_session.started']);
  });

  it('another customer of the account is not overwritten by the one that was made', async () => {
    const accountId = await addAccount(bench);
    const other = bench.stripe.newId('cus');
    meanwhile('/v1/customers', () => em().nativeUpdate(Account, accountId, { stripeCustomerId: other }));
    const { value } = await startCheckout(deps, callOf(accountId), plan);
    expect(await em().findOneOrFail(Account, accountId)).toMatchObject({ stripeCustomerId: other });
    expect(sessionsOf(other).map(({ id }) => id)).toEqual([value.checkout_session_id]);
    // Whoever mapped the other one has told of it.
    expect(await logOf(accountId)).toEqual(['checkout_session.started']);
  });

  it('a customer that was made for a generation that is over is not mapped', async () => {
    const accountId = await addAccount(bench);
    meanwhile('/v1/customers', async () => {
      await em().nativeUpdate(Account, accountId, { stripeCustomerGeneration: 1 });
      // What was lost is lost: it is deleted, so the next call does not find it by the address.
      bench.stripe.interfere((call) =>
        call.method === 'GET' && call.path.startsWith('/v1/customers')
          ? { kind: 'answer', status: 200, body: '{"object":"list","data":[],"has_more":false}' }
          : undefined,
      );
    });
    await startCheckout(deps, callOf(accountId), plan);
    const customers = bench.stripe
      .all('customer')
      .filter(({ metadata }) => JSON.stringify(metadata ?? {}).includes(formatId('acc', accountId)));
    expect(customers).toHaveLength(2);
    expect(
      bench.stripe.calls.filter(({ path, method }) => method === 'POST' && path === '/v1/customers'),
    ).not.toEqual([]);
    const { stripeCustomerId } = await em().findOneOrFail(Account, accountId);
    const made = await em().find(AuditEntry, { accountId, action: 'stripe_customer.created' });
    expect(made.map(({ targetResourceId }) => targetResourceId)).toEqual([stripeCustomerId]);
  });

  it('a session that is not what is wanted any more is kept under nobody’s key', async () => {
    const { accountId } = await addCustomer(bench);
    bench.stripe.interfere(({ method, path }) =>
      method === 'POST' && path === '/v1/checkout/sessions' ? { kind: 'lost_answer' } : undefined,
    );
    await expect(startCheckout(deps, callOf(accountId), plan)).rejects.toThrow();
    // Found again, it is to be closed for another one, and that fails.
    bench.stripe.interfere(({ path }) =>
      path.endsWith('/expire') ? { kind: 'answer', status: 500, body: '{}' } : undefined,
    );
    const other = { ...plan, tier: 'api_scale' } as const;
    await expect(startCheckout(deps, callOf(accountId, 'scale'), other)).rejects.toMatchObject({
      status: 502,
    });
    expect(await logOf(accountId)).toEqual(['checkout_session.started']);
    expect(await em().count(IdempotencyKey, { accountId })).toBe(0);
  });
});

describe('a key', () => {
  it('that has its answer begins nothing, also when what it answers with has ended', async () => {
    const { accountId } = await addCustomer(bench);
    const { value } = await startCheckout(deps, callOf(accountId, 'k'), plan);
    await em().nativeUpdate(CheckoutAttempt, { accountId }, { state: 'expired' });
    expect(await startCheckout(deps, callOf(accountId, 'k'), plan)).toEqual({ value, replayed: true });
    expect((await attemptsOf(accountId)).map(({ state }) => state)).toEqual(['expired']);
  });

  it('that a dead process left behind is taken over for the same request alone', async () => {
    const { accountId } = await addCustomer(bench);
    const { value } = await startCheckout(deps, callOf(accountId, 'k'), plan);
    const left = { state: 'running' as const, status: null, response: null };
    await em().nativeUpdate(IdempotencyKey, { accountId }, left);
    bench.time.now = new Date(NOW.getTime() + 61_000);
    const other = startCheckout(deps, callOf(accountId, 'k'), { ...plan, tier: 'api_scale' });
    await expect(other).rejects.toMatchObject({ code: 'idempotency_key_reused' });
    expect(await startCheckout(deps, callOf(accountId, 'k'), plan)).toEqual({ value, replayed: false });
  });
});

describe('what another process has done by the time the account’s row is free', () => {
  it('an attempt that it has begun is gone on with', async () => {
    const { accountId, customer } = await addCustomer(bench);
    const { accountId: model } = await addCustomer(bench);
    await startCheckout(deps, callOf(model), plan);
    const id = uuidv7(NOW);
    const { value } = await whileHeld(
      accountId,
      () => startCheckout(deps, callOf(accountId, 'k'), plan),
      (query) =>
        query(
          `insert into checkout_attempt (id, account_id, kind, state, params, params_hash, expires_at, created_at, updated_at)
           select $1, $2, kind, 'creating', params || jsonb_build_object('customer', $3::text), params_hash, expires_at,
                  created_at, updated_at from checkout_attempt where account_id = $4`,
          [id, accountId, customer, model],
        ),
    );
    expect(await attemptsOf(accountId)).toMatchObject([
      { id, state: 'open', stripeSessionId: value.checkout_session_id },
    ]);
  });

  it('a customer that it has made is sold to', async () => {
    const accountId = await addAccount(bench);
    const customer = bench.stripe.newId('cus');
    const { value } = await whileHeld(
      accountId,
      () => startCheckout(deps, callOf(accountId), plan),
      (query) => query('update account set stripe_customer_id = $2 where id = $1', [accountId, customer]),
    );
    expect(sessionsOf(customer).map(({ id }) => id)).toEqual([value.checkout_session_id]);
  });

  it('a key that it has claimed is in use', async () => {
    const { accountId, customer } = await addCustomer(bench);
    await startCheckout(deps, callOf(accountId, 'k'), plan);
    const { key, route, requestHash, lockedUntil, createdAt } = await em().findOneOrFail(IdempotencyKey, {
      accountId,
    });
    await em().nativeDelete(IdempotencyKey, { accountId });
    const second = whileHeld(
      accountId,
      () => startCheckout(deps, callOf(accountId, 'k'), plan),
      (query) =>
        query(
          `insert into idempotency_key (account_id, key, route, request_hash, state, locked_until, created_at)
           values ($1, $2, $3, $4, 'running', $5, $6)`,
          [accountId, key, route, requestHash, lockedUntil, createdAt],
        ),
    );
    await expect(second).rejects.toMatchObject({ code: 'idempotency_key_in_use' });
    expect(sessionsOf(customer)).toHaveLength(1);
  });
});

/** Before each statement that a first purchase takes, and after it with its answer lost. */
const DEATHS = [1, 2, 3, 4].flatMap((at) => (['before', 'after'] as const).map((when) => ({ at, when })));

it.each(DEATHS)(
  'a process that dies $when statement $at leaves what the next one goes on with',
  async (point) => {
    const accountId = await addAccount(bench);
    const proxy = await startCrashProxy({ target: bench.db.url, unit: 'statement' });
    const dying = await connectDatabase({ url: proxy.url, poolMax: 1, applicationName: 'dying' });
    try {
      proxy.arm(point.at, point.when);
      await expect(startCheckout({ ...deps, db: dying }, callOf(accountId, 'k'), plan)).rejects.toThrow();
      expect(proxy.crashed()).toBe(true);
    } finally {
      await dying.close();
      await proxy.close();
    }
    bench.time.now = new Date(NOW.getTime() + 61_000);
    const { value } = await startCheckout(deps, callOf(accountId, 'k'), plan);
    const { stripeCustomerId } = await em().findOneOrFail(Account, accountId);
    expect(sessionsOf(String(stripeCustomerId)).map(({ id, status }) => [id, status])).toEqual([
      [value.checkout_session_id, 'open'],
    ]);
    const customers = bench.stripe
      .all('customer')
      .filter(({ metadata }) => JSON.stringify(metadata ?? {}).includes(formatId('acc', accountId)));
    expect(customers.map(({ id }) => id)).toEqual([stripeCustomerId]);
    expect(await attemptsOf(accountId)).toMatchObject([
      { state: 'open', stripeSessionId: value.checkout_session_id },
    ]);
    expect(await logOf(accountId)).toEqual(['stripe_customer.created', 'checkout_session.started']);
    expect(await verifyChain(bench.db, accountId)).toBe(null);
    expect(await em().find(IdempotencyKey, { accountId })).toMatchObject([
      { state: 'done', response: value },
    ]);
  },
);

describe('the statements', () => {
  /** What is null at first. */
  const LEFT = { checkout_attempt: ['stripe_session_id'], idempotency_key: ['status', 'response'] };

  it.each([
    ['checkout_attempt', CheckoutAttempt, TAKE_TURN.text],
    ['idempotency_key', IdempotencyKey, CLAIMING],
  ] as const)('know every column of %s', (table, entity, text) => {
    const { props } = bench.db.orm.getMetadata().getByClassName(entity.meta.className);
    const columns = props.flatMap(({ fieldNames }) => fieldNames).sort();
    const [, names = ''] = new RegExp(`insert into ${table}(?: as k)?\\s*\\(([^)]+)\\)`).exec(text) ?? [];
    expect([...names.split(/,\s*/), ...LEFT[table]].sort()).toEqual(columns);
  });

  it('count as open what the index does', async () => {
    const { rows } = await bench.db.pool.query<{ where: string }>(
      "select pg_get_expr(indpred, indrelid) as where from pg_index where indexrelid = 'checkout_attempt_one_open'::regclass",
    );
    const statesIn = (text = '') => [...text.matchAll(/'([a-z_]+)'/g)].map(([, state]) => state).sort();
    const [, named] =
      /on conflict \(account_id, kind\) where state in \(([^)]+)\)/.exec(TAKE_TURN.text) ?? [];
    expect(statesIn(rows[0]?.where)).toHaveLength(4);
    expect(statesIn(named)).toEqual(statesIn(rows[0]?.where));
  });

  type Node = {
    'Node Type': string;
    'Index Name'?: string;
    'Conflict Arbiter Indexes'?: string[];
    Plans?: Node[];
  };
  const planOf = async (text: string): Promise<Node[]> => {
    const client = await bench.db.pool.connect();
    try {
      await client.query('begin');
      await client.query('set local enable_seqscan = off');
      const { rows } = await client.query<{ 'QUERY PLAN': [{ Plan: Node }] }>(
        `explain (generic_plan, format json) ${text}`,
      );
      const all = (node: Node): Node[] => [node, ...(node.Plans ?? []).flatMap(all)];
      return (rows[0]?.['QUERY PLAN'] ?? []).flatMap(({ Plan }) => all(Plan));
    } finally {
      await client.query('rollback');
      client.release();
    }
  };

  it.each([
    {
      statement: TAKE_TURN,
      indexes: [
        'account_pkey',
        'checkout_attempt_one_open',
        'idempotency_key_pkey',
        'subscription_account_id_unique',
        'trial_pack_account_id_unique',
      ],
      arbiters: ['checkout_attempt_one_open', 'idempotency_key_pkey'],
    },
    {
      statement: BEGIN_PORTAL,
      indexes: ['account_pkey', 'idempotency_key_pkey'],
      arbiters: ['idempotency_key_pkey'],
    },
    {
      statement: SESSION_STARTED,
      indexes: [
        'account_pkey',
        'audit_entry_dedupe_key_unique',
        'checkout_attempt_pkey',
        'idempotency_key_pkey',
      ],
      arbiters: [],
    },
  ])('$statement.name finds all it asks for by an index', async ({ statement, indexes, arbiters }) => {
    const nodes = await planOf(statement.text);
    expect([...new Set(nodes.flatMap((node) => node['Index Name'] ?? []))].sort()).toEqual(indexes);
    expect(nodes.flatMap((node) => node['Conflict Arbiter Indexes'] ?? []).sort()).toEqual(arbiters);
    expect(nodes.filter((node) => node['Node Type'] === 'Seq Scan')).toEqual([]);
  });
});
