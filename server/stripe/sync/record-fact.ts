import type Stripe from 'stripe';
import { formatId, parseUuid } from '../../../shared/ids.ts';
import type { Tx } from '../../database/connection.ts';
import { CheckoutAttempt } from '../../database/entities/billing.ts';
import type { LockedAccount } from '../../database/locks.ts';
import type { StripeCalls } from '../api/gateway.ts';
import type { Alarm } from '../deps.ts';
import { hasCustomer } from '../inbox/owner.ts';
import type { Effect, Source } from './effects.ts';
import type { Fact } from './facts.ts';
import { circumstancesOf } from './invoice/circumstances.ts';
import { effectsOfInvoice } from './invoice/invoice.ts';
import { renewalNotice } from './invoice/renewal.ts';
import { noteBareCharge } from './purchase/bare-charge.ts';
import { idOf, type SessionFacts } from './purchase/purchase.ts';
import { recordPack } from './purchase/record-pack.ts';
import { noteStrangeLines, noteStrangeSession } from './purchase/unrecognised.ts';
import type { Surplus } from './second/surplus.ts';
import { nextOf } from './subscription/next.ts';
import type { SubscriptionRow } from './subscription/project.ts';
import type { PriceMap } from './subscription/schedule.ts';

/** Two things Stripe holds name two different accounts. The event is set aside: no number of tries helps. */
export class Contradiction extends Error {
  override readonly name = 'Contradiction';
}

export type Recording = {
  tx: Tx;
  stripe: StripeCalls;
  account: LockedAccount;
  /** The row as it is after this pass, and the subscription it was projected from. */
  row: SubscriptionRow | null;
  chosen: Stripe.Subscription | null;
  subscriptions: readonly Stripe.Subscription[];
  /** Those of them that we ended, now or before, because they were second ones. */
  surplus: readonly Surplus[];
  /** By invoice, what came of a payment for one of those after its end. */
  late: ReadonlyMap<string, readonly Effect[]>;
  /** What the prices of these subscriptions mean. */
  prices: PriceMap;
  now: Date;
  alarms: Alarm[];
  /** What this pass is to write down so far. */
  effects: readonly Effect[];
};

/** Carries out what a fact means for the account, and returns what is to be written down about it. */
export async function recordFact(context: Recording, fact: Fact, source: Source): Promise<Effect[]> {
  const { row } = context;
  switch (fact.kind) {
    case 'nothing':
      return [];
    case 'session':
      return await recordSession(context, fact.facts, source);
    case 'pack':
      return await recordPack(context, fact.pack, source);
    case 'invoice':
      return [
        ...effectsOfInvoice(fact.facts, await circumstancesOf(context, fact.facts, source)),
        ...(fact.sold?.pack ? await recordPack(context, fact.sold.pack, source) : []),
        ...(fact.sold ? await noteStrangeLines(context, fact.facts.invoice, fact.sold, source) : []),
        ...(context.late.get(fact.facts.invoice.id) ?? []),
      ];
    case 'bare_charge':
      return await noteBareCharge(context, fact.charge, source);
    case 'renewal':
      return renewalNotice(context, fact.facts);
    case 'trial_ending':
      return trialNotice(row, context.chosen, fact.madeAt);
    case 'alarm':
      context.alarms.push({ kind: fact.what, details: source });
      return await recordFact(context, fact.about, source);
  }
}

async function recordSession(context: Recording, facts: SessionFacts, source: Source): Promise<Effect[]> {
  const { session, pack } = facts;
  await requireOwn(context, session);
  await moveAttempt(context, facts);
  return [
    ...(pack ? await recordPack(context, pack, source) : []),
    ...(await noteStrangeSession(context, facts, source)),
    ...notesOfSession(facts, source),
  ];
}

/**
 * Our mapping of customers is the authority; an account that was written onto the session has to agree with it.
 * Another reference than one of ours is the affair of whoever made the session.
 */
async function requireOwn({ tx, account }: Recording, session: Stripe.Checkout.Session): Promise<void> {
  const named = session.client_reference_id;
  const contradicts = named?.startsWith('acc_') && named !== formatId('acc', account.id);
  if (!contradicts && (await hasCustomer(tx, account, idOf(session.customer)))) return;
  throw new Contradiction(
    `Checkout session ${session.id} names customer ${idOf(session.customer)} and account ${named}`,
  );
}

async function moveAttempt(context: Recording, { session, payment }: SessionFacts): Promise<void> {
  const { tx, account, subscriptions, now } = context;
  const attemptId = parseUuid(session.metadata?.['driftstack_attempt_id'] ?? '');
  if (attemptId === null || payment === 'open') return;
  const subscription = subscriptions.find(({ id }) => id === idOf(session.subscription));
  // A subscription paid by a delayed method is usable at once; only an incomplete one still waits.
  const waits = payment === 'pending' && (!subscription || subscription.status === 'incomplete');
  const state = waits
    ? 'awaiting_payment'
    : payment === 'done' || payment === 'pending'
      ? 'completed'
      : 'expired';
  // What was let go with its customer can have been paid before. It does not wait again: others may be open.
  const final = state === 'completed' ? (['completed'] as const) : (['completed', 'expired', state] as const);
  await tx.nativeUpdate(
    CheckoutAttempt,
    { id: attemptId, accountId: account.id, state: { $nin: [...final] } },
    { state, stripeSessionId: session.id, updatedAt: now },
  );
}

function notesOfSession({ session, payment, pack }: SessionFacts, source: Source): Effect[] {
  const target = session.id;
  if (payment === 'expired') {
    const action = 'checkout_session.expired';
    return [{ kind: 'audit', key: `session_expired:${target}`, action, target, payload: source }];
  }
  if (payment !== 'failed') return [];
  const key = `session_failed:${target}`;
  const action = 'checkout_session.payment_failed';
  const audit: Effect = { kind: 'audit', key, action, target, payload: source };
  if (!pack) return [audit];
  const { amountCents, currency } = pack;
  return [
    audit,
    { kind: 'mail', key, template: 'trial_pack_payment_failed', data: { amountCents, currency } },
  ];
}

/** Three days, and an hour for Stripe to say so. */
const TRIAL_NOTICE_MS = 73 * 3_600_000;

/**
 * Stripe tells three days before the end, or at once where fewer are left. A trial that ends later than that was
 * extended since, and is told of by another event in its time: this one must not take its place.
 */
function trialNotice(
  row: SubscriptionRow | null,
  chosen: Stripe.Subscription | null,
  madeAt: Date,
): Effect[] {
  if (row?.status !== 'trialing' || !chosen || chosen.trial_end === null) return [];
  if (chosen.trial_end * 1000 - madeAt.getTime() > TRIAL_NOTICE_MS) return [];
  const { tier, billingPeriod } = row;
  const key = `trial_ending:${chosen.id}:${chosen.trial_end}`;
  const trialEndsAt = new Date(chosen.trial_end * 1000);
  const data = { plan: { tier, billingPeriod }, trialEndsAt, next: nextOf(row, chosen) };
  return [{ kind: 'mail', key, template: 'trial_ending', data }];
}
