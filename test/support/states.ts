import { randomUUID } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * The states that the suites have to have been in before their green says anything, by the room they belong to.
 * Each is recognised by the world alone: by what a story did, by what Stripe, the rows, the audit log and the mails
 * say at the end, or by where a fault struck. Never by the code whose behaviour is in question.
 */
export const ROOMS = {
  intake: [
    'an event arrives a second time',
    'an event arrives at two processes at once',
    'an event arrives again while it is being worked on',
    'an event arrives after a newer one about the same thing',
    'an event of a subscription arrives after that of its end',
    'an event of an invoice arrives before any of its subscription',
    'an event arrives a day late',
    'an event arrives when Stripe no longer lists it',
    'five events or more arrive at once',
    'an event is stored, and its process dies before it says so',
    'a process dies before the event that it was given is stored',
    'an event never arrives that a dead process had stored',
  ],
  owner: [
    'a customer is made, and the process dies before that is written down',
    'a sale arrives that does not say whose it is',
    'an event arrives of a customer who has been deleted',
  ],
  lease: [
    'two processes work for one account at once',
    'an event arrives while Stripe is read',
    'something happens at Stripe between reading and writing',
    'a subscription ends or is set aside between reading and writing',
    'days pass between reading and writing',
    'a customer comes back while an event is worked on',
    'Stripe answers last what it was asked first',
    'Stripe keeps both processes waiting',
    'a lease runs out while Stripe is read',
    'a lease is lost between reading and writing',
    'who lost the lease comes to its end',
    'the other process does what a dead one had begun',
    'a process works again on what is done',
  ],
  crash: [
    'a process dies before it reads from Stripe',
    'a process dies with what it has read from Stripe',
    'a process dies while Stripe keeps it waiting',
    'a process dies before it commits',
    'a process dies after it has committed',
    'a process dies before it asks for a refund',
    'a process dies after Stripe has given back',
    'a process dies before it ends a second subscription',
    'a process dies after it has ended a second subscription',
    'a process dies before it has a customer made',
    'a process dies after it has had a customer made',
    'a process dies before it opens a session',
    'a process dies after it has opened a session',
    'a process dies before it closes a session',
    'a process dies after it has closed a session',
    'a process dies with a page that it opens in a story',
    'two deaths in one story',
    'both processes die in one story',
  ],
  subscription: [
    'a subscription is active',
    'a subscription is past due',
    'a subscription is incomplete',
    'a subscription was never paid for',
    'a subscription has ended',
    'the log never saw a status that Stripe went through',
    'a subscription had ended before we heard of it',
    'a subscription is past due and then paid for',
    'a subscription ends for want of payment',
    'a first payment waits, and is made',
    'the tier goes up',
    'the tier goes down',
    'a month becomes a year',
    'a year becomes a month',
    'the plan changes and changes back before we hear of it',
    'an end is planned',
    'a planned end is moved',
    'a planned end is taken back',
    'an end is planned and taken back before we hear of it',
    'a planned end comes',
    'an end is planned beyond the period',
    'a schedule ends a subscription',
    'a subscription is paused',
    'the row passes on to another subscription',
    'the row comes back to an earlier subscription',
  ],
  second: [
    'two subscriptions live',
    'three subscriptions live',
    'a second subscription is of the same tier',
    'a second subscription is of a higher tier',
    'a second subscription is of another period',
    'two subscriptions are made in one second',
    'a second subscription is ended and given back',
    'a second subscription is ended, and a person is to give back',
    'two live side by side, and a person is told',
    'one of two is paused',
    'one of two is to end by itself',
    'what was set aside goes on, and the second is ended',
    'a second subscription is given back in part',
    'a second subscription is ended whose payment is disputed',
    'a second subscription is ended after staff gave back a part',
    'two second subscriptions are ended in one story',
    'of two the first ends before we hear of the second',
  ],
  pack: [
    'a trial pack is granted',
    'a pack is paid for twice on our own pages',
    'a pack is sold by a link and by us',
    "a pack is sold by staff's invoice",
    'three packs are paid for',
    'a pack is paid for on a page that we know nothing of',
    'a pack is granted whose payment came second',
    'a refund is heard of before the sale',
    'a dispute is heard of before the sale',
    'a pack is given back in part',
    'a pack is given back in full',
    'a pack is given back twice in part',
    'a refund of a pack fails',
    'a pack is disputed',
    'a dispute is lost',
    'a dispute is won',
    'a dispute is over before we hear of it',
    'a pack is given back in part and disputed',
    'a pack runs out of time',
    'a pack is heard of when its time is over',
    'a pack is given back when its time is over',
    'a dispute is closed when the time of its pack is over',
    'a second pack is sold when the first has run out',
    'a second pack is disputed',
    'a second pack was given back by staff',
    'a pack and a subscription belong to one account',
    'a pack is sold beside a subscription on one invoice',
    'a second pack is sold beside a subscription that is kept',
    'a second subscription is sold beside a pack that is kept',
    'a second subscription and a second pack of one charge are both given back',
    'staff gives back of a charge for a subscription and a pack before we do',
    'a payment is for nothing that we know',
    'a payment for nothing is given back before the night',
  ],
  invoices: [
    'an invoice is paid',
    'an attempt to collect fails',
    'an invoice is tried a third time',
    'a payment waits for the customer',
    'a failed attempt is heard of after the payment',
    'an invoice is paid after it failed',
    'an invoice is left unpaid by a subscription that ended',
    'a renewal is paid',
    'two invoices are paid before we hear of either',
    'a renewal is announced',
    'a first payment of a pack is declined',
  ],
  booked: [
    'a change is booked',
    'a booked change is replaced by another',
    'a booked change is called off',
    'a booked change comes true',
    'a booked change is called off before we hear of it',
    'a change of the period is booked',
    'an end is planned beside a booked change',
    'a subscription ends before its booked change',
  ],
  deleted: [
    'a customer is deleted while a subscription lives',
    'a customer is deleted with events under way',
    'a customer is deleted while a process is at work',
    'a deletion is heard of before the purchase',
    'a former customer is given back',
    'a former customer disputes',
    'a dispute of a former customer is closed',
    'a pack is granted to a former customer',
    'a second pack of a former customer is given back',
  ],
  minting: [
    'a page is refused because a subscription lives',
    'a page is refused because the pack was had',
    'an open session is closed because another is wanted',
    'fifty callers get one session',
    'a caller is left by a dying process and calls again',
    'a caller is told to call again',
    'a page is paid for again',
    'a page is paid for that has run out or was closed',
    'a customer comes back before any event has come',
    'a customer comes back without having paid',
  ],
  worker: [
    'a crash before anything was stored',
    'a crash between two transactions',
    'a crash within a transaction',
    'a crash after a commit, with its answer lost',
    'a crash leaves an event that was acknowledged',
    'a crash leaves an account under its lease',
    'a crash leaves mails that nobody has taken',
    'a crash leaves mails that were taken and have not gone out',
    'a crash leaves mails that are out and not written down as sent',
    'a batch of mails goes out again under its key',
    'a worker is killed with events that it has acknowledged',
    'a worker is killed while an account is under its lease',
    'a worker is killed while mails are under their lease',
    'a worker is killed while Stripe keeps it waiting',
    'a delivery is cut off by a kill',
    'mails are tried again after a kill',
    'a worker is killed in the middle of a statement',
    'PostgreSQL is killed while events are delivered',
    'PostgreSQL is killed while a state is read',
  ],
  mails: [
    'several mails go out in one batch',
    'two workers share the pace',
    'Resend has had too many requests',
    'Resend fails',
    'Resend answers with garbage',
    'mails are cut off before they are taken in',
    'mails are taken in and the answer is lost',
    'mails are sent again while the provider is still at it',
  ],
  stripe: [
    'Stripe answers 500',
    'Stripe answers 503 by its proxy',
    'Stripe answers 429 with Retry-After',
    'Stripe answers 429 without Retry-After',
    'Stripe answers 409 for a key in use',
    'Stripe never answers and does nothing',
    'Stripe never answers and has done it',
    'Stripe breaks the connection and has done it',
    'Stripe answers 200 with garbage',
    'Stripe answers 200 with JSON of another',
    'Stripe fails for longer than anybody tries, and the caller calls again',
    'Stripe fails once, and the caller does not notice',
  ],
  missed: [
    'an event that never came is made good by a comparison',
    "an event that never came is found in Stripe's list",
    'no event of a purchase ever comes',
    'the end of a subscription is never told',
    'a refund is never told',
    'a comparison finds nothing to mend',
    'a night tells of a payment for nothing',
  ],
} as const;

export type State = (typeof ROOMS)[keyof typeof ROOMS][number];

export const STATES: readonly State[] = Object.values(ROOMS).flat();

const counts = new Map<State, number>();

/** The suites have just been in this state; where it depends, give the condition. */
export function reached(state: State, isSo = true): void {
  if (isSo) counts.set(state, (counts.get(state) ?? 0) + 1);
}

/** Writes what was counted since the last time into a file of its own in the folder. */
export function writeCounts(folder: string): void {
  if (counts.size === 0) return;
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, `${randomUUID()}.json`), JSON.stringify([...counts]));
  counts.clear();
}

/** What all processes of a run have written into its folder, summed. */
export function sumCounts(folder: string): ReadonlyMap<string, number> {
  const sums = new Map<string, number>();
  for (const file of readdirSync(folder)) {
    const written: [string, number][] = JSON.parse(readFileSync(join(folder, file), 'utf8'));
    for (const [state, count] of written) sums.set(state, (sums.get(state) ?? 0) + count);
  }
  return sums;
}
