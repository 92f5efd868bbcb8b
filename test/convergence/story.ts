import { setTimeout as delay } from 'node:timers/promises';
import Stripe from 'stripe';
import { changeEmail } from '../../server/billing/change-email.ts';
import { startCheckout, startTrialPack } from '../../server/billing/checkout.ts';
import type { BillingDeps } from '../../server/billing/deps.ts';
import { parseAllowlist } from '../../server/billing/redirects.ts';
import { buildSessionParams } from '../../server/billing/session-params.ts';
import { expireTrialPack } from '../../server/credit/expire.ts';
import { Account } from '../../server/database/entities/account.ts';
import { uuidv7 } from '../../server/database/uuid.ts';
import { createEventStore } from '../../server/stripe/inbox/event-store.ts';
import { takeIn } from '../../server/stripe/inbox/intake.ts';
import { catchUp } from '../../server/stripe/repair/catch-up.ts';
import { reconcile } from '../../server/stripe/repair/reconcile.ts';
import { synchronise } from '../../server/stripe/sync/synchronise.ts';
import { lookupKey, TRIAL_PACK } from '../../shared/catalog.ts';
import { ProblemError } from '../../shared/errors.ts';
import { processEvents } from '../support/processing.ts';
import { sign, WEBHOOK_SECRET } from '../support/stripe.ts';
import { addressOf } from './addresses.ts';
import type { Card, Command } from './commands.ts';
import { happen, pick } from './customer.ts';
import { type Lane, QUIET } from './lane.ts';
import { type Expected, expectedRow, planOf } from './oracle.ts';
import { gates, Killed, type Life, startLife } from './process.ts';
import { type SurplusEnd, seeEnd } from './surplus.ts';
import { startWitness, type Witness } from './witness.ts';

type Told = { id: string; type: string; body: string };

/** Everything that was seen on the way, for the properties to judge. */
export type Ending = {
  readonly lane: Lane;
  readonly accountId: string;
  /** Null when the account never got as far as having one. */
  readonly customer: string | null;
  /** What Stripe said at each moment, in order, each state once until it changed. */
  readonly history: readonly Expected[];
  /** The moments at which the plan of a subscription, or that of the row, became another. */
  readonly planChanges: ReadonlySet<string>;
  /** Events that Stripe told and of which nothing was made good but by a comparison. */
  readonly dropped: readonly Told[];
  /** All that never arrived by themselves. */
  readonly lost: readonly Told[];
  /** Events that were dropped, and that a process had stored before it died. */
  readonly found: number;
  readonly recovery: Recovery;
  readonly witness: Witness;
  /** Sessions that we did not open ourselves. */
  readonly oldPages: ReadonlySet<string>;
  /** The subscriptions that we ended, as each stood in that moment. */
  readonly surplusEnds: readonly SurplusEnd[];
  /** A subscription was ended or set aside while we were at work, who had read it before. */
  readonly raced: boolean;
  /** How many processes died over the commands. */
  readonly deaths: number;
  /** The addresses that other accounts have, and those that staff and customer have set or tried to; in lower case. */
  readonly otherAddresses: ReadonlySet<string>;
  readonly staffSet: ReadonlySet<string>;
  readonly customerSet: ReadonlySet<string>;
};

export const REDIRECTS = {
  redirects: parseAllowlist(['https://your.app']),
  defaults: {
    checkoutSuccessUrl: 'https://your.app/success',
    checkoutCancelUrl: 'https://your.app/cancel',
    portalReturnUrl: null,
  },
};
/** Our own cancellations and refunds are told as well, and theirs in turn: it ends after two or three rounds. */
const MOST_ROUNDS = 12;
const TAKEN_WITHIN_MS = 500;
const LEASE = 'select lease from account_sync where account_id = $1';
/** For so long a step waits at most until an answer is held back that is to be. */
const HELD_WITHIN_MS = 500;
/** What decides about ending a subscription, and may happen between our reading and our doing. */
const RACING: ReadonlySet<string> = new Set([
  'cancel',
  'end_subscription',
  'set_aside',
  'change_plan',
  'wait',
]);

/** How we hear of what was dropped: by a comparison with Stripe, or by the list of its events. */
export type Recovery = 'reconcile' | 'catch_up';

/** Plays a case to its end, and then brings everything to rest. */
export async function play(
  lane: Lane,
  commands: readonly Command[],
  recovery: Recovery = 'reconcile',
): Promise<Ending> {
  const { world } = lane.localStripe;
  const waiting: Told[] = [];
  const dropped: Told[] = [];
  const history: Expected[] = [];
  const planChanges = new Set<string>();
  const stored = new Set<string>();
  const pages: string[] = [];
  const oldPages = new Set<string>();
  const surplusEnds: SurplusEnd[] = [];
  let raced = false;
  let deaths = 0;
  let settingAddress = 0;
  const otherAddresses = new Set<string>();
  const staffSet = new Set<string>();
  const customerSet = new Set<string>();
  const running = new Set<Promise<void>>();
  const faults: unknown[] = [];
  const held = gates();
  const witness = startWitness({ lane, held });
  let customer: string | null = null;

  const plans = new Map<string, string>();
  /** Each subscription has its own moments, also while another one is the better. */
  const notePlans = (): void => {
    for (const one of customer === null ? [] : world.ofCustomer('subscription', customer)) {
      const plan = JSON.stringify(planOf(world, one));
      if (plan !== (plans.get(one.id) ?? plan)) planChanges.add(new Date(world.now() * 1000).toISOString());
      plans.set(one.id, plan);
    }
  };
  const accountId = await lane.begin((event) => {
    waiting.push(event);
    witness.tells(event, customer);
    const end = seeEnd(world, event);
    if (end) surplusEnds.push(end);
    notePlans();
    const now = customer === null ? null : expectedRow(world, customer);
    if (now === null || JSON.stringify(now) === JSON.stringify(history.at(-1))) return;
    const before = history.at(-1);
    if (before && (before.tier !== now.tier || before.billingPeriod !== now.billingPeriod))
      planChanges.add(new Date(world.now() * 1000).toISOString());
    history.push(now);
  });
  const lives = lane.processes.map((real) => startLife(real, held));
  const lifeOf = (number: number): { life: Life; deps: BillingDeps } => {
    const at = number % lives.length;
    const real = lane.processes[at];
    if (!real) throw new Error('a lane has two processes');
    let life = lives[at];
    // A process that died is started again, with nothing of what it had in memory.
    if (!life || life.isDead()) {
      deaths += 1;
      witness.startsAgain(at);
      life = lives[at] = startLife(real, held);
    }
    const clock = { now: () => new Date(lane.time.ms) };
    return { life, deps: { db: life.db, gateway: life.gateway, clock, log: QUIET, ...REDIRECTS } };
  };

  /** Runs something of ours; being killed, and refusing, are no faults. */
  const start = (work: () => Promise<void>): Promise<void> => {
    const task = work().catch(async (error: unknown) => {
      if (error instanceof Killed) return await letLeasesEnd(lane);
      if (error instanceof ProblemError) witness.refused(error);
      else faults.push(error);
    });
    running.add(task);
    void task.then(() => running.delete(task));
    return task;
  };
  const finish = async (task: Promise<unknown>): Promise<void> => {
    let done = false;
    const end = task.then(() => {
      done = true;
    });
    // Who has lost the account is left behind for so long as another may need to look at it.
    const hurriesAt = performance.now() + (witness.isStalled() ? TAKEN_WITHIN_MS : 0);
    while (!done) {
      await Promise.race([end, delay(3)]);
      if (!done && performance.now() >= hurriesAt) held.hurry();
    }
  };
  const run = async (background: boolean, work: () => Promise<void>): Promise<void> => {
    const task = start(work);
    if (!background) return await finish(task);
    let done = false;
    const end = task.then(() => {
      done = true;
    });
    await Promise.race([end, delay(1)]);
    // What is to be slow goes on as far as there: otherwise the next step would come before it had asked anything.
    const endsAt = performance.now() + HELD_WITHIN_MS;
    while (!done && held.waiting() === 0 && lives.some((life) => life.isSlow()) && performance.now() < endsAt)
      await Promise.race([end, delay(1)]);
  };

  const learnCustomer = async (): Promise<void> => {
    if (customer !== null) return;
    const account = await lane.processes[0]?.db.orm.em.fork().findOneOrFail(Account, accountId);
    customer = account?.stripeCustomerId ?? null;
  };
  const openPage = async (command: Extract<Command, { do: 'open_page' }>): Promise<void> => {
    const { deps } = lifeOf(command.process);
    const call = { accountId, keyId: accountId, requestId: 'req_convergence', idempotencyKey: null };
    const opening =
      command.kind === 'trial_pack'
        ? startTrialPack(deps, call, {})
        : startCheckout(deps, call, { tier: command.tier, billing_period: command.period });
    const minted = await opening.catch((error: unknown) => {
      if (error instanceof Killed) witness.diesOverPage(customer);
      throw error;
    });
    pages.push(minted.value.checkout_session_id);
  };
  const findOldPage = async (command: Extract<Command, { do: 'find_old_page' }>): Promise<void> => {
    const sdk = lane.processes[0]?.gateway.sdk;
    if (customer === null || !sdk) return;
    const key =
      command.kind === 'trial_pack' ? TRIAL_PACK.lookupKey : lookupKey(command.tier, command.period);
    const params = buildSessionParams({
      kind: command.kind,
      accountId,
      attemptId: uuidv7(new Date()),
      price: lane.setUp.prices.get(key) ?? '',
      successUrl: 'https://your.app/success',
      cancelUrl: 'https://your.app/cancel',
    });
    const { id } = await sdk.checkout.sessions.create({ ...params, customer });
    pages.push(id);
    oldPages.add(id);
  };
  /** A link sells the pack alone, or beside a plan. */
  const openLink = async (plan: string | null): Promise<void> => {
    if (customer === null) return;
    const keys = [plan ?? [], TRIAL_PACK.lookupKey].flat();
    const { id } = await bySdk().checkout.sessions.create({
      mode: plan === null ? 'payment' : 'subscription',
      customer,
      line_items: keys.map((key) => ({ price: lane.setUp.prices.get(key) ?? '', quantity: 1 })),
      success_url: 'https://your.app/thanks',
    });
    pages.push(id);
    oldPages.add(id);
  };
  const bySdk = () => {
    const sdk = lane.processes[0]?.gateway.sdk;
    if (!sdk) throw new Error('a lane has two processes');
    return sdk;
  };
  /** Staff charges a card by hand; whether it is declined is the customer's affair. */
  const charge = async (of: string, card: Card, how: (paymentMethod: string) => Promise<unknown>) => {
    try {
      const { id } = await bySdk().paymentMethods.attach(`pm_card_${card}`, { customer: of });
      await how(id);
    } catch (error) {
      if (!(error instanceof Stripe.errors.StripeCardError)) throw error;
    }
  };
  const invoicePack = async (of: string, card: Card): Promise<void> => {
    const price = lane.setUp.prices.get(TRIAL_PACK.lookupKey) ?? '';
    const { invoices, invoiceItems } = bySdk();
    const { id } = await invoices.create({ customer: of, pending_invoice_items_behavior: 'exclude' });
    await invoiceItems.create({ customer: of, invoice: id, pricing: { price } });
    await invoices.finalizeInvoice(id, { auto_advance: false });
    await charge(of, card, (payment_method) => invoices.pay(id, { payment_method }));
  };
  const takeMoney = async (of: string, { cents, card }: Extract<Command, { do: 'take_money' }>) =>
    await charge(of, card, (payment_method) =>
      bySdk().paymentIntents.create({
        ...{ customer: of, amount: cents, currency: 'usd', payment_method, confirm: true, off_session: true },
        metadata: { driftstack_kind: 'trial_pack' },
      }),
    );
  const staffSetsAddress = async (number: number, address: string): Promise<void> => {
    const { deps } = lifeOf(number);
    settingAddress += 1;
    staffSet.add(address.toLowerCase());
    try {
      await changeEmail({ ...deps, stripe: deps.gateway }, accountId, address);
    } finally {
      settingAddress -= 1;
    }
  };
  const otherTakesAddress = async (address: string): Promise<void> => {
    const email = address.toLowerCase();
    const { rowCount } = (await lane.processes[0]?.db.pool.query(
      'insert into account (id, email, created_at) values ($1, $2, now()) on conflict do nothing',
      [uuidv7(new Date()), email],
    )) ?? { rowCount: 0 };
    if (rowCount === 1) otherAddresses.add(email);
  };
  /** One after another, or all at once, so that all but two wait for those and go as one group. */
  const arrive = async (to: number, events: readonly Told[], together: boolean): Promise<void> => {
    const { deps } = lifeOf(to);
    const door = { ...deps, events: createEventStore(deps.db), secrets: [WEBHOOK_SECRET], livemode: false };
    const take = async (event: Told): Promise<void> => {
      witness.arrives(event);
      try {
        const signature = sign(event.body, deps.clock.now());
        await takeIn(door, { rawBody: Buffer.from(event.body), signature });
        stored.add(event.id);
      } catch (error) {
        if (error instanceof Killed) witness.diesOver((await absent(lane, [event])).length === 0);
        // Not acknowledged, so Stripe delivers it again.
        waiting.push(event);
        throw error;
      }
    };
    if (together) {
      witness.arriveTogether(events);
      const results = await Promise.allSettled(events.map(take));
      const failed = results.find((result) => result.status === 'rejected');
      if (!failed) return;
      witness.diesOverGroup(events.length, failed.reason instanceof Killed);
      throw failed.reason;
    }
    for (const [at, event] of events.entries())
      await take(event).catch((error: unknown) => {
        waiting.push(...events.slice(at + 1));
        throw error;
      });
  };
  const work = async (number: number, ids: readonly string[]): Promise<void> => {
    const { life, deps } = lifeOf(number);
    const end = witness.works(number, ids);
    await processEvents(deps, ids).finally(() => end(life.isDead()));
    if (witness.isStalled()) witness.seesLease(number, await bySql(LEASE));
  };
  const deliver = async (command: Extract<Command, { do: 'deliver' }>): Promise<void> => {
    const events = command.picks.flatMap((number) => {
      const event = pick(waiting, number);
      if (event) waiting.splice(waiting.indexOf(event), 1);
      return event ?? [];
    });
    // Stripe delivers it twice: some time later, or at the same moment.
    const again = command.twice ? events.slice(-1) : [];
    if (!command.together) waiting.push(...again);
    const arriving = command.together ? [...events, ...again] : events;
    const targets = command.to === 2 ? [0, 1] : [command.to];
    witness.delivers(targets.length, events.length);
    const results = await Promise.allSettled(
      targets.map(async (to) => {
        await arrive(to, arriving, command.together);
        if (command.work) await work(to, ids(events));
      }),
    );
    for (const result of results) if (result.status === 'rejected') throw result.reason;
  };
  const bySql = async (text: string): Promise<string | null> => {
    const result = await lane.processes[0]?.db.pool.query<{ lease: string | null }>(text, [accountId]);
    return result?.rows[0]?.lease ?? null;
  };
  /** As the database sees it: the account's lease is over, and whoever has it knows nothing of that. */
  const stall = async (): Promise<void> => {
    const lease = await bySql(
      `update account_sync set leased_until = now() - interval '1 second'
        where account_id = $1 and leased_until > now() returning lease`,
    );
    if (lease !== null) witness.stalls(lease);
  };
  const letTimePass = (hours: number): void => {
    // A day at a time, so that what happens on the way happens at its hour.
    for (let left = hours; left > 0; left -= 24) {
      lane.time.ms += Math.min(24, left) * 3_600_000;
      world.runUntil(world.now(), null);
    }
  };

  const step = async (command: Command): Promise<void> => {
    switch (command.do) {
      case 'open_page':
        return await run(false, () => openPage(command));
      case 'find_old_page':
        return await findOldPage(command);
      case 'delete_customer':
        if (customer !== null) await bySdk().customers.del(customer);
        return;
      case 'set_address':
        if (customer === null) return;
        customerSet.add(addressOf(accountId, command.which).toLowerCase());
        await bySdk().customers.update(customer, { email: addressOf(accountId, command.which) });
        return;
      case 'staff_sets_address':
        if (customer === null) return;
        return await run(command.background, () =>
          staffSetsAddress(command.process, addressOf(accountId, command.which)),
        );
      case 'other_takes_address':
        return await otherTakesAddress(addressOf(accountId, command.which));
      case 'open_link':
        return await openLink(null);
      case 'open_joint_link':
        return await openLink(lookupKey(command.tier, command.period));
      case 'invoice_pack':
        if (customer !== null) await invoicePack(customer, command.card);
        return;
      case 'take_money':
        if (customer !== null) await takeMoney(customer, command);
        return;
      case 'come_back': {
        const page = pick(pages, command.page);
        if (page === undefined) return;
        const cause = { kind: 'checkout_session', sessionId: page } as const;
        return await run(
          false,
          async () => void (await synchronise(lifeOf(command.process).deps, accountId, cause)),
        );
      }
      case 'deliver':
        return await run(command.background, () => deliver(command));
      case 'drop': {
        const event = pick(waiting, command.pick);
        if (!event) return;
        // Every copy of it.
        for (let at = waiting.indexOf(event); at >= 0; at = waiting.indexOf(event)) waiting.splice(at, 1);
        dropped.push(event);
        return;
      }
      case 'work':
        return await run(command.background, () => work(command.process, [...stored]));
      case 'slow':
        return lifeOf(command.process).life.slow(command.holds);
      case 'doom':
        return lifeOf(command.process).life.doom(command.points);
      case 'doom_by_refund':
        return lifeOf(command.process).life.doomByRefund(command.count);
      case 'stall':
        return await stall();
      case 'wait':
        return letTimePass(command.hours);
      default:
        if (RACING.has(command.do)) raced ||= running.size > 0;
        if (customer !== null) happen(lane, customer, pages, command);
    }
  };

  /** Everything that was not dropped arrives and is processed, by processes that live and answer at once. */
  const settle = async (): Promise<void> => {
    await finish(Promise.all(running));
    for (const [at, real] of lane.processes.entries()) lives[at] = startLife(real, held);
    for (let round = 0; round < MOST_ROUNDS; round++) {
      const events = waiting.splice(0).reverse();
      await arrive(round, events, true);
      const pending = await unfinished(lane, customer);
      if (events.length === 0 && pending.length === 0) return;
      const failures = await processEvents(lifeOf(round).deps, pending);
      if (failures.size > 0 && round > 2) throw new Error(`still failing: ${[...failures].join('; ')}`);
    }
    throw new Error('it does not come to rest');
  };

  /** The poll for events that never arrived, as often as it takes. */
  const fetchMissed = async (): Promise<void> => {
    for (let missed = 1; missed > 0; ) {
      // What happened just now could still be on its way, so it is not missed yet.
      lane.time.ms += 120_000;
      world.runUntil(world.now(), null);
      missed = (await catchUp({ ...lifeOf(1).deps, livemode: false })) ?? 0;
    }
  };

  for (const command of commands) {
    held.step();
    witness.step(command, {
      running: running.size,
      waiting: waiting.length,
      customer,
      pages,
      isBeingSet: settingAddress > 0,
    });
    await step(command);
    await learnCustomer();
  }
  await learnCustomer();
  await finish(Promise.all(running));
  deaths += lives.filter((life) => life.isDead()).length;
  await settle();
  // A process can have died after it stored an event and before it said so; that one is not lost.
  const lost = await absent(lane, dropped);
  const found = dropped.length - lost.length;
  witness.finds(found > 0);
  if (lost.length > 0) {
    if (recovery === 'reconcile') await reconcile(lifeOf(0).deps, accountId, { by: 'convergence' });
    else await fetchMissed();
    await settle();
  }
  for (const number of [0, 1]) await expireTrialPack(lifeOf(number).deps, accountId);
  if (faults.length > 0) throw new AggregateError(faults, faults.map(String).join('; '));
  const missed = recovery === 'reconcile' ? lost : [];
  const seen = {
    history,
    planChanges,
    oldPages,
    surplusEnds,
    raced,
    deaths,
    otherAddresses,
    staffSet,
    customerSet,
  };
  return { lane, accountId, customer, ...seen, dropped: missed, lost, found, recovery, witness };
}

/**
 * What a process had in its hands when it was killed is free after some seconds, which nobody waits for here. What
 * another one works on at the time is free as well, and may be taken from it in the middle.
 */
async function letLeasesEnd({ processes }: Lane): Promise<void> {
  for (const table of ['account_sync', 'stripe_event'])
    await processes[0]?.db.pool.query(`update ${table} set leased_until = now() where leased_until > now()`);
}

const ids = (events: readonly Told[]): string[] => events.map(({ id }) => id);

async function absent({ processes }: Lane, events: readonly Told[]): Promise<Told[]> {
  const { rows } = (await processes[0]?.db.pool.query<{ id: string }>(
    'select id from stripe_event where id = any($1)',
    [ids(events)],
  )) ?? { rows: [] };
  const arrived = new Set(rows.map(({ id }) => id));
  return events.filter(({ id }) => !arrived.has(id));
}

async function unfinished({ processes }: Lane, customer: string | null): Promise<string[]> {
  const { rows } = (await processes[0]?.db.pool.query<{ id: string }>(
    `select id from stripe_event where state = 'received' and ($1::text is null or customer_id = $1 or customer_id is null)`,
    [customer],
  )) ?? { rows: [] };
  return rows.map(({ id }) => id);
}
