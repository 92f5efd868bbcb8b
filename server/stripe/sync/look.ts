import type Stripe from 'stripe';
import type { Database, Tx } from '../../database/connection.ts';
import type { StripeCalls } from '../api/gateway.ts';
import type { Cause } from './cause.ts';
import type { Fact } from './facts.ts';
import type { Ours } from './ours.ts';
import { catalogueOf } from './purchase/sold.ts';
import {
  ended,
  overAndUnlisted,
  readAll,
  readAsked,
  readPlanChange,
  readSubscriptions,
  understood,
} from './readings.ts';
import { remembering } from './remembered.ts';
import { isMarked, readUnlisted, type Surplus } from './second/surplus.ts';
import { type Learned, nothingLearned, readPrices } from './subscription/prices.ts';
import { type Projection, project } from './subscription/project.ts';
import type { PriceMap } from './subscription/schedule.ts';

/** What Stripe holds about the account and about each event, as of now. */
export type Seen = {
  readonly subscriptions: readonly Stripe.Subscription[];
  readonly customerGone: boolean;
  /** Second ones that we ended, and Stripe does not list any more. */
  readonly unlisted: readonly Surplus[];
  /** The customer itself, where we were told of a change of it or are to compare. */
  readonly customer: Stripe.Customer | null;
  readonly projection: Projection;
  /** The subscription that the row is projected from. */
  readonly chosen: Stripe.Subscription | null;
  readonly prices: PriceMap;
  /** What was found out about prices, to be remembered with what is written. */
  readonly learned: Learned;
  /** When its plan changed, where it did and Stripe says so. */
  readonly planChangedAt: Date | null;
  readonly facts: readonly { fact: Fact; eventId: string | null }[];
  /** The events whose objects could not be read. */
  readonly failed: ReadonlyMap<string, unknown>;
};

type Looking = { db: Database; em: Tx; stripe: StripeCalls; ours: Ours; cause: Cause; now: Date };

/** Reads all that a pass wants to know of Stripe, with nothing held meanwhile. What we remember is read as it stands. */
export async function look({ db, em, stripe: calls, ours: ourSide, cause, now }: Looking): Promise<Seen> {
  const { account, held, events } = ourSide;
  const stripe = remembering(calls);
  const { customer, ...read } = await readSubscriptions(stripe, account, events, cause);
  const { subscriptions, customerGone } = read;
  const learned = nothingLearned();
  const prices = await readPrices(db, stripe, subscriptions, learned);
  const unlisted = await readUnlisted(stripe, overAndUnlisted(events, subscriptions));
  const ours = subscriptions.filter((subscription) => !isMarked(subscription));
  const before = held?.row ?? null;
  const projection = ended(project(ours, prices, before), before, customerGone);
  const chosenId = projection.row?.stripeSubscriptionId ?? null;
  const chosen = ours.find(({ id }) => id === chosenId) ?? null;
  const planChangedAt = await readPlanChange(stripe, prices, { before, after: projection.row, chosen });
  const known = {
    catalogue: catalogueOf({ db, em }, stripe, learned),
    ours: understood(subscriptions, prices, chosenId),
  };
  // What is asked in advance must not decide what the next one learns.
  const inAdvance = { ...known, catalogue: catalogueOf({ db, em }, stripe, nothingLearned()), chosen };
  const told = await readAll(stripe, events, { inAdvance, inOrder: { ...known, chosen } });
  const asked = await readAsked(em, stripe, account, { cause, known, now });
  return {
    ...read,
    unlisted,
    customer,
    prices,
    learned,
    projection,
    chosen,
    planChangedAt,
    facts: [...told.facts, ...asked.map((fact) => ({ fact, eventId: null }))],
    failed: told.failed,
  };
}
