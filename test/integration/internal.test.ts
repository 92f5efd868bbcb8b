import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { verifyLedger } from '../../server/credit/ledger.ts';
import { mountInternal } from '../../server/http/internal-door.ts';
import { Driftstack } from '../../shared/client.ts';
import { DriftstackError } from '../../shared/client-errors.ts';
import { formatId } from '../../shared/ids.ts';
import { DriftstackInternal } from '../../shared/internal-client.ts';
import type { CreditEntry } from '../../shared/usage.ts';
import { openPack, tellPack } from '../support/credit.ts';
import { startHttp, type TestHttp } from '../support/http.ts';

const TOKEN = 'service-token-of-the-test-0123456789';
const clock = { now: () => new Date() };

let http: TestHttp;
let client: DriftstackInternal;

beforeAll(async () => {
  http = await startHttp({
    mount: (app, db) => mountInternal(app, { token: TOKEN, deps: { db, clock } }),
  });
  client = new DriftstackInternal({ token: TOKEN, baseUrl: http.url });
});

afterAll(async () => {
  await http?.close();
});

const used_at = () => new Date().toISOString();
const open = async (balanceSeconds?: number) =>
  formatId('acc', await openPack(http.db, balanceSeconds === undefined ? {} : { balanceSeconds }));
const failure = async (calling: Promise<unknown>): Promise<DriftstackError> => {
  const error: unknown = await calling.then(
    () => 'nothing was thrown',
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof DriftstackError)) throw new Error(`not a DriftstackError: ${String(error)}`);
  return error;
};
/** As bytes, for what the typed client would not send. */
const raw = (procedure: string, body: string) =>
  fetch(`${http.url}/internal/trpc/${procedure}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${TOKEN}`, 'content-type': 'application/json' },
    body,
  });

test('a session runtime reserves, reports, settles, releases and reads, all typed', async () => {
  const account_id = await open(1_000);
  const session = { account_id, session_id: 'ses_1' };
  const reserved = await client.credit.reserve({
    ...session,
    reservation_id: 'res-1',
    seconds: 600,
    hold_seconds: 900,
  });
  expect(reserved).toMatchObject({ reserved_seconds: 600, status: 'active' });
  expect(reserved.expires_at).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
  expect(
    await client.credit.reportUse({ ...session, report_id: 'rep-1', seconds: 500, used_at: used_at() }),
  ).toEqual({ accepted_seconds: 400, remaining_seconds: 600, status: 'held', used_up: false });
  expect(
    await client.credit.settle({ account_id, reservation_id: 'res-1', seconds: 100, used_at: used_at() }),
  ).toEqual({ accepted_seconds: 100, remaining_seconds: 500, status: 'active', used_up: false });
  await client.credit.reserve({ ...session, reservation_id: 'res-2', seconds: 50, hold_seconds: 60 });
  expect(await client.credit.release({ account_id, reservation_id: 'res-2' })).toEqual({
    released_seconds: 50,
  });
  expect(await client.credit.balance({ account_id })).toMatchObject({
    status: 'active',
    granted_seconds: 59_800,
    remaining_seconds: 500,
    held_seconds: 0,
    free_seconds: 500,
  });
  expect(
    await client.credit.reportUse({ ...session, report_id: 'rep-2', seconds: 500, used_at: used_at() }),
  ).toEqual({ accepted_seconds: 500, remaining_seconds: 0, status: 'used_up', used_up: true });
});

test('the main API opens an account, finds it, and issues and revokes its keys', async () => {
  const { account_id, email } = await client.accounts.create({ email: 'Provisioned@Example.com' });
  expect(email).toBe('provisioned@example.com');
  expect(await failure(client.accounts.create({ email }))).toMatchObject({
    status: 409,
    code: 'email_taken',
  });
  expect(await client.accounts.find({ email: 'provisioned@example.COM' })).toEqual({ account_id, email });
  expect(await failure(client.accounts.find({ email: 'nobody@example.com' }))).toMatchObject({ status: 404 });
  const { api_key, api_key_id } = await client.keys.issue({
    account_id,
    name: 'first',
    scopes: ['read:billing'],
  });
  expect((await http.call('/v1/billing', { key: api_key })).status).toBe(200);
  expect(await client.keys.revoke({ api_key_id })).toEqual({ revoked_now: true });
  expect(await client.keys.revoke({ api_key_id })).toEqual({ revoked_now: false });
  expect((await http.call('/v1/billing', { key: api_key })).status).toBe(401);
  const late = { account_id, name: 'late', expires_at: '2020-01-01T00:00:00Z' };
  expect(await failure(client.keys.issue(late))).toMatchObject({ status: 400, kind: 'validation-failed' });
});

describe('bad input', () => {
  test.each([
    ['none', 0, 'scopes must have at least 1 entry.'],
    ['too many', 11, 'scopes must have at most 10 entries.'],
  ])('a list with %s', async (_, length, detail) => {
    const issued = client.keys.issue({
      account_id: await open(),
      name: 'listed',
      scopes: Array.from({ length }, () => 'read:audit' as const),
    });
    expect(await failure(issued)).toMatchObject({ status: 400, detail });
  });

  test.each<[string, string, string]>([
    ['negative seconds', '"seconds":-1', 'seconds must be at least 1.'],
    ['no seconds', '"seconds":0', 'seconds must be at least 1.'],
    ['half a second', '"seconds":0.5', 'seconds must be an integer.'],
    ['huge seconds', '"seconds":1000001', 'seconds must be at most 1000000.'],
    ['seconds beyond all numbers', '"seconds":1e999', 'seconds must be at most 9007199254740991.'],
    [
      'seconds beyond exact numbers',
      '"seconds":9007199254740993',
      'seconds must be at most 9007199254740991; seconds must be at most 1000000.',
    ],
    ['seconds that are no number', '"seconds":null', 'seconds must be a number.'],
    ['seconds as text', '"seconds":"60"', 'seconds must be a number.'],
    [
      'a time that is none',
      '"used_at":"yesterday"',
      'used_at must be a time in UTC such as 2026-05-01T00:00:00Z.',
    ],
    ['an account that is none', '"account_id":"acc_1"', 'account_id must be the id of an account, acc_….'],
    [
      'an empty report id',
      '"report_id":""',
      'report_id must be 1 to 128 printable ASCII characters without white space.',
    ],
    ['a field nobody knows', '"extra":1', 'extra is not a parameter of this call.'],
  ])('%s is refused with what is wrong, and nothing is written', async (_what, field, detail) => {
    const account_id = await open();
    const good = {
      account_id,
      report_id: `bad-${account_id}`,
      session_id: 's',
      seconds: 60,
      used_at: used_at(),
    };
    const name = /^"(\w+)"/.exec(field)?.[1] ?? '';
    const { [name as keyof typeof good]: _left, ...rest } = good;
    const response = await raw('credit.reportUse', `{${field},${JSON.stringify(rest).slice(1)}`);
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ error: { data: { problem: { detail } } } });
    expect(await client.credit.balance({ account_id })).toMatchObject({ remaining_seconds: 59_800 });
    expect((await client.credit.reportUse(good)).accepted_seconds).toBe(60);
  });

  test('NaN is not JSON', async () => {
    expect((await raw('credit.reportUse', '{"seconds":NaN}')).status).toBe(400);
  });

  test('an unknown account and a reused report id are refused', async () => {
    const unknown = 'acc_01890a5d-ac96-774b-bcce-b302099a8057';
    const report = { account_id: unknown, report_id: 'u1', session_id: 's', seconds: 60, used_at: used_at() };
    expect(await failure(client.credit.reportUse(report))).toMatchObject({ status: 404 });
    const account_id = await open();
    await client.credit.reportUse({ ...report, account_id });
    const other = { ...report, account_id, seconds: 61 };
    expect(await failure(client.credit.reportUse(other))).toMatchObject({
      status: 409,
      code: 'report_id_reused',
    });
    expect(await verifyLedger(http.db)).toEqual([]);
  });

  test.each([
    ['no token', {}],
    ['another token', { authorization: 'Bearer something-else' }],
    ['a token without its scheme', { authorization: TOKEN }],
  ])('%s is 401 for every procedure, known or not', async (_what, headers: Record<string, string>) => {
    for (const path of ['credit.balance?input=%7B%7D', 'nothing.here']) {
      const response = await fetch(`${http.url}/internal/trpc/${path}`, { headers });
      expect(response.status).toBe(401);
      expect(await response.json()).toMatchObject({ error: { data: { problem: { code: 'unauthorized' } } } });
    }
  });

  test('an API key of a customer opens nothing here, and the token nothing there', async () => {
    const { key } = await http.openAccount();
    const own = new DriftstackInternal({ token: key, baseUrl: http.url });
    expect(await failure(own.credit.balance({ account_id: await open() }))).toMatchObject({ status: 401 });
    expect((await http.call('/v1/billing', { key: TOKEN })).status).toBe(401);
  });

  test('the procedures are not among the public ones', async () => {
    const response = await http.call('/trpc/credit.balance', { key: TOKEN });
    expect(response.status).toBe(404);
    expect(JSON.stringify(await (await http.call('/openapi.json')).json())).not.toMatch(
      /reportUse|reservation/,
    );
  });
});

test('without a token there are no such routes', async () => {
  const without = await startHttp();
  try {
    const headers = { authorization: `Bearer ${TOKEN}` };
    const response = await fetch(`${without.url}/internal/trpc/credit.balance`, { headers });
    expect(response.status).toBe(404);
  } finally {
    await without.close();
  }
});

describe('what a customer sees of it', () => {
  test('their entries, newest first, on pages that do not shift while entries are added', async () => {
    const { key, accountId } = await http.openAccount(['read:billing']);
    const now = new Date();
    await tellPack(http.db, accountId, { paidAt: new Date(now.getTime() - 1_000) });
    const account_id = formatId('acc', accountId);
    const report = (n: number) =>
      client.credit.reportUse({
        account_id,
        report_id: `${account_id}-${n}`,
        session_id: `ses_${n}`,
        seconds: n,
        used_at: now.toISOString(),
      });
    for (const n of [1, 2, 3]) await report(n);
    const { billing } = new Driftstack({ apiKey: key, baseUrl: http.url });
    const first = await billing.listTrialPackUsage({ limit: 2 });
    expect(
      first.data.map(({ kind, seconds, balance_seconds, session_id }) => [
        kind,
        seconds,
        balance_seconds,
        session_id,
      ]),
    ).toEqual([
      ['use', -3, 59_794, 'ses_3'],
      ['use', -2, 59_797, 'ses_2'],
    ]);
    await report(4);
    const rest = await billing.listTrialPackUsage({ limit: 2, cursor: first.next_cursor ?? '' });
    expect(rest.data.map(({ kind, seconds }) => [kind, seconds])).toEqual([
      ['use', -1],
      ['grant', 59_800],
    ]);
    expect(rest.next_cursor).toBeNull();
    const all: CreditEntry[] = [];
    for await (const entry of billing.iterateTrialPackUsage({ limit: 1 })) all.push(entry);
    expect(all.map(({ seconds }) => seconds)).toEqual([-4, -3, -2, -1, 59_800]);
    expect(all.reduce((sum, { seconds }) => sum + seconds, 0)).toBe(59_790);
  });

  test('reports of which nothing was accepted are left out', async () => {
    const account_id = await open(100);
    const report = { account_id, session_id: 's', seconds: 100, used_at: used_at() };
    await client.credit.reportUse({ ...report, report_id: `${account_id}-1` });
    await client.credit.reportUse({ ...report, report_id: `${account_id}-2` });
    const { api_key } = await client.keys.issue({ account_id, name: 'reader' });
    const response = await http.call('/v1/billing/trial-pack/usage', { key: api_key });
    const page: unknown = await response.json();
    expect(page).toMatchObject({ data: [{ seconds: -100 }, { seconds: -59_700 }, { kind: 'grant' }] });
  });

  test('not without the scope, and not by a cursor of another account', async () => {
    const { key } = await http.openAccount(['read:audit']);
    expect((await http.call('/v1/billing/trial-pack/usage', { key })).status).toBe(403);
    const other = await http.openAccount();
    const cursor = Buffer.from(JSON.stringify(['credit', 'somebody', 1])).toString('base64url');
    const path = `/v1/billing/trial-pack/usage?cursor=${cursor}`;
    expect((await http.call(path, { key: other.key })).status).toBe(400);
    expect((await http.call('/v1/billing/trial-pack/usage?limit=101', { key: other.key })).status).toBe(400);
  });
});
