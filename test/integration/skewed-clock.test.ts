import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createApp } from '../../server/app.ts';
import { startCheckout, startTrialPack } from '../../server/billing/checkout.ts';
import type { BillingDeps, MintingCall } from '../../server/billing/deps.ts';
import { parseAllowlist } from '../../server/billing/redirects.ts';
import { Subscription, TrialPack } from '../../server/database/entities/billing.ts';
import { uuidv7 } from '../../server/database/uuid.ts';
import { createLog } from '../../server/http/log.ts';
import { catchUp } from '../../server/stripe/repair/catch-up.ts';
import { type LocalBench, openLocalBench } from '../support/local-stripe.ts';
import { processEvents } from '../support/processing.ts';
import { reached } from '../support/states.ts';
import { addAccount, eventBody, sign, WEBHOOK_SECRET } from '../support/stripe.ts';

let bench: LocalBench;
beforeAll(async () => {
  bench = await openLocalBench();
});
afterAll(() => bench.close());

const HOUR_MS = 3_600_000;
const em = () => bench.db.orm.em.fork();
const callOf = (accountId: string): MintingCall => ({
  accountId,
  keyId: uuidv7(new Date()),
  requestId: 'req_1',
  idempotencyKey: null,
});

/** The local Stripe keeps its own clock; ours is this far off. */
const depsAt = (offMs: number): BillingDeps => ({
  ...bench,
  clock: { now: () => new Date(Date.now() + offMs) },
  redirects: parseAllowlist(['https://your.app']),
  defaults: {
    checkoutSuccessUrl: 'https://your.app/ok',
    checkoutCancelUrl: 'https://your.app/back',
    portalReturnUrl: null,
  },
});
const PLAN = { tier: 'api_builder', billing_period: 'monthly' } as const;

describe.each([-26, -1, 0, 1, 26])('a server whose clock is off by %i hours', (hours) => {
  const deps = () => depsAt(hours * HOUR_MS);

  it('sells, gives the open session again, and replaces it by another', async () => {
    const accountId = await addAccount(bench);
    const first = await startCheckout(deps(), callOf(accountId), PLAN);
    expect(await startCheckout(deps(), callOf(accountId), PLAN)).toEqual(first);
    const other = await startCheckout(deps(), callOf(accountId), { ...PLAN, tier: 'api_scale' });
    const session = await bench.gateway.readCheckoutSession(first.value.checkout_session_id);
    expect(session?.status).toBe('expired');
    await bench.pay(other.value.checkout_session_id);
    await bench.catchUp();
    expect(await em().findOneOrFail(Subscription, { accountId })).toMatchObject({ tier: 'api_scale' });
    const pack = await startTrialPack(deps(), callOf(accountId), {});
    await bench.pay(pack.value.checkout_session_id);
    await bench.catchUp();
    expect(await em().count(TrialPack, { accountId })).toBe(1);
    reached('a clock is a day off from that of Stripe', Math.abs(hours) > 24);
  });
});

it.each([-1, 1])(
  'off by %i hours, it refuses what Stripe signs and tells the operator why, once a minute',
  async (hours) => {
    const lines: string[] = [];
    const app = await createApp({
      ...depsAt(hours * HOUR_MS),
      log: createLog({ level: 'info', stream: { write: (line) => void lines.push(line) } }),
      roles: new Set(['webhooks']),
      livemode: false,
      webhookSecrets: () => [WEBHOOK_SECRET],
      linkOrigins: [],
      email: null,
      emailFrom: 'billing@example.test',
      internalApiToken: null,
      console: false,
      customerWebhooks: { secretKey: null, ports: [], loopback: false },
    });
    const deliver = async (secret?: string) => {
      const { body } = eventBody('invoice.paid', { id: 'in_1', object: 'invoice', customer: 'cus_1' });
      const headers = {
        'content-type': 'application/json',
        'stripe-signature': sign(body, new Date(), secret),
      };
      const answer = await app.http.inject({
        method: 'POST',
        url: '/webhooks/stripe',
        headers,
        payload: body,
      });
      expect(answer.statusCode).toBe(400);
      return answer.json<{ detail: string }>().detail;
    };
    const ahead = async () => {
      const { body } = await app.http.inject('/metrics');
      return Number(/^driftstack_stripe_clock_ahead_seconds (\S+)$/m.exec(body)?.[1]);
    };
    const told = () => lines.filter((line) => line.includes('clock_off'));
    try {
      // What a stranger signed is no news.
      expect(await deliver('whsec_wrong')).toContain('No signature');
      expect([told(), await ahead()]).toEqual([[], 0]);
      const way = hours > 0 ? 'ahead of' : 'behind';
      for (let n = 0; n < 3; n++) expect(await deliver()).toMatch(new RegExp(`3(5|6)\\d\\d seconds ${way}`));
      expect(Math.abs((await ahead()) - hours * 3_600)).toBeLessThan(60);
      expect(told()).toHaveLength(1);
      expect(told()[0]).toMatch(new RegExp(`3(5|6)\\d\\d seconds ${way}`));
      const { body } = await app.http.inject('/metrics');
      expect(body).toContain('driftstack_stripe_alarms_total{kind="clock_off"} 1');
    } finally {
      await app.close();
    }
  },
);

describe('when a clock is set', () => {
  it.each([
    ['forward', 0, 26],
    ['back', 26, 0],
  ])('%s by 26 hours between two calls, there is one open session', async (_how, before, after) => {
    const accountId = await addAccount(bench);
    const first = await startCheckout(depsAt(before * HOUR_MS), callOf(accountId), PLAN);
    const second = await startCheckout(depsAt(after * HOUR_MS), callOf(accountId), PLAN);
    const read = async (id: string) => (await bench.gateway.readCheckoutSession(id))?.status;
    expect(await read(second.value.checkout_session_id)).toBe('open');
    const isOther = first.value.checkout_session_id !== second.value.checkout_session_id;
    expect(await read(first.value.checkout_session_id)).toBe(isOther ? 'expired' : 'open');
  });
});

it('an hour ahead at the first run loses no event of Stripe', async () => {
  const { db, gateway, log } = bench;
  const clock = { now: () => new Date(Date.now() + HOUR_MS) };
  const sync = { db, gateway, clock, log };
  await catchUp({ ...sync, livemode: false });
  const accountId = await addAccount(bench);
  const { value } = await startCheckout(depsAt(HOUR_MS), callOf(accountId), PLAN);
  await bench.pay(value.checkout_session_id);
  const later = { now: () => new Date(Date.now() + HOUR_MS + 2 * 60_000) };
  await catchUp({ ...sync, clock: later, livemode: false });
  const { rows } = await db.pool.query<{ id: string }>(
    "select id from stripe_event where state = 'received'",
  );
  await processEvents(
    sync,
    rows.map(({ id }) => id),
  );
  expect(await em().findOneOrFail(Subscription, { accountId })).toMatchObject({ status: 'active' });
});
