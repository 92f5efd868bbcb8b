import { request } from 'node:http';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { revokeKey } from '../../server/billing/keys.ts';
import type { Scope } from '../../shared/scopes.ts';
import { startHttp, type TestHttp } from '../support/http.ts';

let http: TestHttp;
beforeAll(async () => {
  http = await startHttp();
});
afterAll(() => http.close());

const problem = async (response: Response) => {
  const body: unknown = await response.json();
  return { status: response.status, challenge: response.headers.get('www-authenticate'), body };
};
const refusedAs = (slug: string) => ({
  status: 401,
  challenge: 'Bearer realm="driftstack"',
  body: expect.objectContaining({ type: `https://errors.driftstack.dev/${slug}` }),
});

describe('a caller', () => {
  it.each([
    [undefined],
    ['Basic YTpi'],
    ['Bearer'],
    ['Bearer '],
    ['Bearer two words'],
    ['ds_live_abc'],
    [`Bearer ds_live_${'x'.repeat(300)}`],
    ['Bearer ds_live_é'],
  ])('with the header %j is unauthorized', async (authorization) => {
    const response = await http.call('/v1/billing', { ...(authorization && { headers: { authorization } }) });
    expect(await problem(response)).toEqual(refusedAs('unauthorized'));
  });

  it('with two Authorization headers is unauthorized, even if the first is good', async () => {
    const { key } = await http.openAccount();
    const status = await new Promise((resolve, reject) => {
      const sent = request(`${http.url}/v1/billing`, (response) => {
        response.resume();
        resolve(response.statusCode);
      });
      sent.on('error', reject);
      sent.setHeader('authorization', [`Bearer ${key}`, `Bearer ${key}`]);
      sent.end();
    });
    expect(status).toBe(401);
  });

  it('with an unknown key has an invalid key', async () => {
    for (const key of [`ds_live_${'A'.repeat(43)}`, 'ds_test_abc', 'abc']) {
      expect(await problem(await http.call('/v1/billing', { key }))).toEqual(refusedAs('invalid-key'));
    }
  });

  it('may write the scheme in any case', async () => {
    const { key } = await http.openAccount();
    const response = await http.call('/v1/billing', { headers: { authorization: `bearer ${key}` } });
    expect(response.status).toBe(200);
  });

  it('is refused from the call after the key was revoked', async () => {
    const { key, keyId } = await http.openAccount();
    expect((await http.call('/v1/billing', { key })).status).toBe(200);
    await http.db.transaction((tx) => revokeKey(tx, { keyId, now: new Date() }));
    expect(await problem(await http.call('/v1/billing', { key }))).toEqual(refusedAs('revoked-key'));
    expect((await http.call('/trpc/billing.getState', { key })).status).toBe(401);
  });

  it('is refused once the key has expired', async () => {
    const { key, keyId } = await http.openAccount();
    await http.db.pool.query('update api_key set expires_at = now() where id = $1', [keyId]);
    expect(await problem(await http.call('/v1/billing', { key }))).toEqual(refusedAs('expired-key'));
  });

  it('is told who may call before anything about the body', async () => {
    const response = await http.call('/v1/billing/checkout-session', {
      method: 'POST',
      body: '{',
      headers: { 'content-type': 'application/json' },
    });
    expect(response.status).toBe(401);
  });
});

describe('the scopes', () => {
  const calls = {
    state: () => ({ path: '/v1/billing', init: {} }),
    portal: () => ({ path: '/v1/billing/portal-session', init: { json: {} } }),
    audit: () => ({ path: '/v1/account/audit-log', init: {} }),
  };
  const cases: [Scope[], (keyof typeof calls)[]][] = [
    [['account_owner'], ['state', 'portal', 'audit']],
    [['read'], ['state', 'audit']],
    [['write'], []],
    [['read:billing'], ['state']],
    [['read:audit'], ['audit']],
    [['admin:billing'], ['portal']],
    [
      ['read:billing', 'admin:billing'],
      ['state', 'portal'],
    ],
    [['read:webhooks'], []],
    [[], []],
  ];

  it.each(cases)('%j allow %j and nothing else', async (scopes, allowed) => {
    const { key } = await http.openAccount(scopes);
    for (const [name, call] of Object.entries(calls)) {
      const { path, init } = call();
      const response = await http.call(path, { key, ...init });
      const expected = allowed.some((one) => one === name) ? 200 : 403;
      expect([name, response.status]).toEqual([name, expected]);
      if (expected === 403) {
        expect(await response.json()).toMatchObject({ detail: expect.stringMatching(/scope [a-z]+:[a-z]+/) });
      }
    }
  });
});

describe('the state that is read with the key', () => {
  it('shows subscription and trial pack as they are stored', async () => {
    const { key, accountId } = await http.openAccount();
    await http.db.pool.query(
      `insert into subscription (id, account_id, stripe_subscription_id, tier, status, billing_period,
         current_period_start, current_period_end, cancel_at_period_end, version, entitled, updated_at)
       values ('01890a5d-ac96-774b-bcce-b302099a8057', $1, 'sub_stripe', 'api_builder', 'canceled', 'annual',
         '2026-05-01T00:00:00.999Z', '2027-05-01T00:00:00Z', true, 1, false, now())`,
      [accountId],
    );
    await http.db.pool.query(
      `insert into trial_pack (id, account_id, stripe_session_id, payment_intent, state, redeemed_at, expires_at,
         granted_seconds, remaining_seconds, version)
       values (gen_random_uuid(), $1, 'cs_1', 'pi_1', 'active', now(), now() + interval '1 day', 59800, 201, 1)`,
      [accountId],
    );
    const state: unknown = await (await http.call('/v1/billing', { key })).json();
    expect(state).toEqual({
      subscription: {
        id: 'sub_01890a5d-ac96-774b-bcce-b302099a8057',
        tier: 'api_builder',
        status: 'canceled',
        billing_period: 'annual',
        current_period_start: '2026-05-01T00:00:00Z',
        current_period_end: '2027-05-01T00:00:00Z',
        cancel_at_period_end: true,
      },
      trial_pack: {
        active: true,
        credit_cents_remaining: 2,
        expires_at: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/),
        redeemed: true,
      },
    });
  });
});
