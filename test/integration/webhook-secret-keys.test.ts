import { afterEach, beforeEach, expect, test } from 'vitest';
import type { WebhookCaller } from '../../server/webhooks/deps.ts';
import { rotateSecret } from '../../server/webhooks/endpoints.ts';
import { lockFeed } from '../../server/webhooks/record-event.ts';
import { reencryptSecrets } from '../../server/webhooks/reencrypt.ts';
import { newSecret, prefixOf, seal } from '../../server/webhooks/secrets.ts';
import { EVENT_TYPES } from '../../shared/events.ts';
import { verifyWebhookSignature } from '../../shared/webhook-signature.ts';
import { runCli } from '../support/cli.ts';
import { WEBHOOK_KEY } from '../support/http.ts';
import { untilTrue } from '../support/service.ts';
import { quietLog } from '../support/stripe.ts';
import { openWebhookBench, type Receiver, type WebhookBench } from '../support/webhooks.ts';

/** The bench encrypts under another one: that is the old key here. */
const NEW_KEY = Buffer.alloc(32, 11);
const BOTH = { secretKey: NEW_KEY, oldSecretKeys: [WEBHOOK_KEY] };
const NEW_ALONE = { secretKey: NEW_KEY };

let bench: WebhookBench;
let caller: WebhookCaller;
let receiver: Receiver;

beforeEach(async () => {
  bench = await openWebhookBench();
  [caller, receiver] = [await bench.addAccount(), await bench.receiver()];
});
afterEach(() => bench.close());

const register = () =>
  bench.use.create(caller, { url: receiver.url, events: [...EVENT_TYPES], description: null });
const got = (count: number) => untilTrue(() => receiver.received.length >= count);
const verdicts = (secrets: readonly string[]) => {
  const last = receiver.received.at(-1);
  const header = last?.headers['x-driftstack-signature'];
  const { now } = bench.time;
  return Promise.all(
    secrets.map((secret) => verifyWebhookSignature({ body: last?.body ?? '', header, secret, now })),
  );
};
const reencrypt = () => reencryptSecrets(bench.db, BOTH, bench.time.now);
const cli = (...keys: Buffer[]) =>
  runCli(
    {
      databaseUrl: bench.db.url,
      stripeUrl: 'http://127.0.0.1:9',
      env: { WEBHOOK_SECRET_KEY: keys.map((key) => key.toString('base64')).join(',') },
    },
    'webhooks',
    'reencrypt',
    '--json',
  );

test('what was encrypted under an old key signs on beside the new one', async () => {
  const { secret } = await register();
  bench.dispatch(BOTH);
  await bench.tell(caller.accountId);
  await got(1);
  expect(await verdicts([secret])).toEqual([true]);
});

test('once all is encrypted anew the old key is needed no more, for the secret before the last either', async () => {
  const { id, secret: first } = await register();
  const { secret: second } = await bench.use.rotateSecret(caller, { id });
  const { secret: other } = await register();
  expect(await reencrypt()).toEqual({ checked: 2, changed: 2, unreadable: [] });
  expect(await reencrypt()).toEqual({ checked: 2, changed: 0, unreadable: [] });
  bench.dispatch(NEW_ALONE);
  await bench.tell(caller.accountId);
  await got(2);
  await bench.use.test(caller, { id });
  await got(3);
  expect(await verdicts([first, second, other])).toEqual([true, true, false]);
});

test('a secret that is rotated meanwhile is not brought back', async () => {
  const { id } = await register();
  const endpointId = id.slice(4);
  const rotated = newSecret();
  const { promise: mayCommit, resolve: commit } = Promise.withResolvers<void>();
  const { promise: locked, resolve: isLocked } = Promise.withResolvers<void>();
  // What rotating does, by a process that knows the old key only.
  const rotating = bench.db.transaction(async (tx) => {
    await lockFeed(tx, caller.accountId);
    isLocked();
    await mayCommit;
    await tx.execute(
      'update webhook_endpoint set secret = ?, secret_prefix = ?, prev_secret = secret, rotation_grace_expires_at = ? where id = ?',
      [
        seal(WEBHOOK_KEY, endpointId, rotated),
        prefixOf(rotated),
        new Date('2026-05-11T12:00:00Z'),
        endpointId,
      ],
    );
  });
  await locked;
  const running = reencrypt();
  const waiting =
    "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
  try {
    await untilTrue(async () => (await bench.db.pool.query(waiting)).rowCount === 1);
  } finally {
    commit();
  }
  await rotating;
  expect(await running).toMatchObject({ changed: 1 });
  bench.dispatch(NEW_ALONE);
  await bench.tell(caller.accountId);
  await got(1);
  expect(await verdicts([rotated])).toEqual([true]);
});

test('a secret that no key opens is named, sends nothing, and is replaced by rotating it', async () => {
  const { id, secret: lost } = await register();
  const warnings: unknown[] = [];
  bench.dispatch({ ...NEW_ALONE, log: { ...quietLog(), warn: (about: object) => warnings.push(about) } });
  await bench.tell(caller.accountId);
  await untilTrue(() => warnings.length > 0);
  expect(warnings[0]).toMatchObject({
    err: {
      name: 'SecretUnreadableError',
      message: expect.stringMatching(`${id.slice(4)} cannot be decrypted: WEBHOOK_SECRET_KEY does not hold`),
    },
  });
  expect(receiver.received).toEqual([]);

  const { secret, prev_secret_prefix } = await rotateSecret({ ...bench.deps, ...NEW_ALONE }, caller, { id });
  expect(prev_secret_prefix).toBeNull();
  // The next try is made when the lease has ended.
  bench.pass(1);
  await got(1);
  expect(await verdicts([secret, lost])).toEqual([true, false]);
});

test('the command encrypts anew, says what it found, and shows no key', async () => {
  const { id } = await register();
  const blind = await cli(NEW_KEY);
  expect(blind).toMatchObject({ code: 1, err: expect.stringContaining('Keep the old keys') });
  expect(blind.json()).toEqual({ checked: 1, changed: 0, unreadable: [id] });
  const done = await cli(NEW_KEY, WEBHOOK_KEY);
  expect(done.code).toBe(0);
  expect(done.json()).toEqual({ checked: 1, changed: 1, unreadable: [] });
  expect((await cli(NEW_KEY)).json()).toEqual({ checked: 1, changed: 0, unreadable: [] });
  expect(await cli()).toMatchObject({
    code: 2,
    err: expect.stringContaining('WEBHOOK_SECRET_KEY must hold'),
  });
  for (const key of [NEW_KEY, WEBHOOK_KEY])
    for (const { out, err } of [blind, done]) expect(out + err).not.toContain(key.toString('base64'));
});
