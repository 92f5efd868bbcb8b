import type Stripe from 'stripe';
import type { ProblemError } from '../../shared/errors.ts';
import { reached, type State } from '../support/states.ts';
import { pick } from './customer.ts';
import type { Lane } from './lane.ts';
import { endedByUs, isLive, planOf, rankOf } from './oracle.ts';
import type { Gates } from './process.ts';
import { isAside } from './surplus.ts';

type Body = { id: string; type: string; body: string };

/** An event as it was told or as it arrived, and when that was by the clock of the case. */
export type Heard = {
  readonly id: string;
  readonly type: string;
  readonly about: About;
  /** What it was before, where it is something that changed. */
  readonly before: Readonly<Record<string, unknown>>;
  readonly atMs: number;
};

/** What an event is about, as far as states are told apart by it. */
type About = { id?: string; object: string; created?: number } & Record<string, unknown>;

/** What a story saw, for the states that only its end shows. */
export type Seen = {
  readonly told: readonly Heard[];
  readonly arrived: readonly Heard[];
  /** Moments at which a customer came back, who has us look at Stripe as well. */
  readonly returns: readonly number[];
  /** Each state counts once a story. */
  see(state: State, isSo: boolean): void;
};

const DAY_MS = 86_400_000;
/** So many statements of the intake are under way at a time; what comes meanwhile goes with the next. */
const ALONE = 2;
/** For so long Stripe lists its events. */
const LISTED_MS = 30 * DAY_MS;
/** What is done by us or asked of us, and is no change at Stripe. */
const NOT_AT_STRIPE: ReadonlySet<string> = new Set([
  ...[
    'open_page',
    'come_back',
    'deliver',
    'drop',
    'work',
    'slow',
    'doom',
    'find_old_page',
    'open_link',
    'open_joint_link',
    'doom_by_refund',
    'staff_sets_address',
    'other_takes_address',
  ],
]);
const DECIDES: ReadonlySet<string> = new Set(['cancel', 'end_subscription', 'set_aside', 'set_end']);

export type Witness = ReturnType<typeof startWitness>;

/** Looks on while a story is played, and counts the rare states that it comes into. Touches nothing. */
export function startWitness({ lane, held }: { lane: Lane; held: Gates }) {
  const { world } = lane.localStripe;
  const states = new Set<State>();
  const told: Heard[] = [];
  const arrived: Heard[] = [];
  const returns: number[] = [];
  let stalled: { lease: string; holder: number; isLost: boolean } | null = null;
  const places = new Map<string, number>();
  const setAside = new Set<string>();
  const wentOn = new Set<string>();
  const atWork = new Map<number, Map<string, number>>();
  const done = new Set<string>();
  const leftBehind: { by: number; ids: ReadonlySet<string> }[] = [];
  const deaths: number[] = [];
  const see = (state: State, isSo: boolean): void => {
    if (isSo) states.add(state);
  };
  const hear = ({ id, type, body }: Body): Heard => {
    const event: { data: { object: About; previous_attributes?: Heard['before'] } } = JSON.parse(body);
    const { object: about, previous_attributes: before = {} } = event.data;
    return { id, type, about, before, atMs: lane.time.ms };
  };
  const heardOf = (id: unknown, type: RegExp): boolean =>
    arrived.some(({ about, type: one }) => about.id === id && type.test(one));

  /** Of those that live at this moment. */
  const lookAtLiving = (customer: string): void => {
    const living = world.ofCustomer('subscription', customer).filter(({ status }) => isLive(status));
    if (living.length < 2) return;
    see('two subscriptions live', true);
    see('three subscriptions live', living.length > 2);
    see('one of two is paused', living.some(isPaused));
    see(
      'one of two is to end by itself',
      living.some((one) => isAside(world, one) && !isPaused(one)),
    );
    for (const one of living)
      if (isAside(world, one)) setAside.add(one.id);
      else if (setAside.has(one.id)) wentOn.add(one.id);
    const plans = living.map((one) => ({ ...planOf(world, one), created: one.created }));
    for (const [at, one] of plans.entries())
      for (const later of plans.slice(at + 1)) {
        see('a second subscription is of the same tier', later.tier === one.tier);
        see('a second subscription is of a higher tier', rankOf(later.tier) > rankOf(one.tier));
        see('a second subscription is of another period', later.period !== one.period);
        see('two subscriptions are made in one second', later.created === one.created);
      }
  };
  const lookAtEnd = (customer: string, id: string): void => {
    const ended = world.get('subscription', id);
    const beside = world.ofCustomer('subscription', customer).filter(({ status }) => isLive(status));
    const byUs = endedByUs(ended);
    see('what was set aside goes on, and the second is ended', byUs && wentOn.size > 0);
    const unheard = beside.some((one) => !heardOf(one.id, /^customer\.subscription\./));
    see('of two the first ends before we hear of the second', !byUs && unheard);
  };

  return {
    /** Something happened at Stripe, and is told. */
    tells(event: Body, customer: string | null): void {
      const heard = hear(event);
      places.set(event.id, told.push(heard));
      if (customer === null) return;
      lookAtLiving(customer);
      if (event.type === 'customer.subscription.deleted') lookAtEnd(customer, String(heard.about.id));
      if (event.type !== 'invoice.paid') return;
      const paid = told.filter(({ type, about }) => type === 'invoice.paid' && about['amount_paid'] !== 0);
      const unheard = paid.filter(({ about }) => !heardOf(about.id, /^invoice\.paid$/));
      see('two invoices are paid before we hear of either', unheard.length > 1);
    },

    /** Before a step is made: what it falls into. */
    step(
      command: { do: string; page?: number },
      now: {
        running: number;
        waiting: number;
        customer: string | null;
        pages: readonly string[];
        /** Staff sets an address at this moment. */
        isBeingSet: boolean;
      },
    ): void {
      const { customer, pages, running } = now;
      const reading = held.waiting() > 0;
      const { do: what, page: at = 0 } = command;
      see('something happens at Stripe between reading and writing', reading && !NOT_AT_STRIPE.has(what));
      see('a subscription ends or is set aside between reading and writing', reading && DECIDES.has(what));
      see('days pass between reading and writing', reading && what === 'wait');
      see('a customer sets an address while staff sets one', what === 'set_address' && now.isBeingSet);
      see(
        'another account takes an address that staff sets',
        what === 'other_takes_address' && now.isBeingSet,
      );
      if (what === 'delete_customer' && customer !== null) {
        const living = world.ofCustomer('subscription', customer).filter(({ status }) => isLive(status));
        see('a customer is deleted while a subscription lives', living.length > 0);
        see('a customer is deleted with events under way', now.waiting > 0);
        see('a customer is deleted while a process is at work', running > 0);
      }
      const page = pick(what === 'pay_page' ? pages.toReversed() : pages, at);
      if (page === undefined) return;
      const { status } = world.get('checkout.session', page);
      if (what === 'pay_page') {
        see('a page is paid for again', status === 'complete');
        see('a page is paid for that has run out or was closed', status === 'expired');
      }
      if (what === 'come_back') {
        returns.push(lane.time.ms);
        const isPaid = status === 'complete';
        see('a customer comes back before any event has come', isPaid && !heardOf(page, /./));
        see('a customer comes back without having paid', status === 'open');
        see('a customer comes back while an event is worked on', running > 0);
      }
    },

    /** An event is handed to one of our processes. */
    arrives(event: Body): void {
      const heard = hear(event);
      const { about } = heard;
      const lateMs = lane.time.ms - (JSON.parse(event.body).created as number) * 1_000;
      see('an event arrives while Stripe is read', held.waiting() > 0);
      see('an event arrives a day late', lateMs >= DAY_MS);
      see('an event arrives when Stripe no longer lists it', lateMs > LISTED_MS);
      see(
        'an event arrives a second time',
        arrived.some(({ id }) => id === event.id),
      );
      const isAtWork = [...atWork.values()].some((ids) => (ids.get(event.id) ?? 0) > 0);
      see('an event arrives again while it is being worked on', isAtWork);
      const place = places.get(event.id) ?? 0;
      const newer = arrived.some((one) => one.about.id === about.id && (places.get(one.id) ?? 0) > place);
      see('an event arrives after a newer one about the same thing', newer);
      if (event.type === 'customer.subscription.updated')
        see(
          'an event of a subscription arrives after that of its end',
          heardOf(about.id, /^customer\.subscription\.deleted$/),
        );
      const of = (about['parent'] as Stripe.Invoice['parent'] | undefined)?.subscription_details
        ?.subscription;
      if (event.type.startsWith('invoice.') && of !== undefined)
        see(
          'an event of an invoice arrives before any of its subscription',
          !heardOf(of, /^customer\.subscription\./),
        );
      see(
        'an event arrives of a customer who has been deleted',
        arrived.some(({ type, about: one }) => type === 'customer.deleted' && one.id === about['customer']),
      );
      const isSale = event.type === 'checkout.session.completed';
      see('a sale arrives that does not say whose it is', isSale && about['client_reference_id'] === null);
      arrived.push(heard);
    },

    /** Some come at one moment, so that all but two of them are stored in one statement. */
    arriveTogether(events: readonly Body[]): void {
      const group = events.slice(ALONE);
      see('several events are stored in one statement', group.length > 1);
      const ids = group.map(({ id }) => id);
      see('an event is twice among those of one statement', new Set(ids).size < ids.length);
      const known = ids.filter((id) => arrived.some((one) => one.id === id));
      see('one of those of one statement is stored already', known.length > 0 && known.length < ids.length);
    },
    diesOverGroup(count: number, isKilled: boolean): void {
      see('a process dies while a group of events is stored', isKilled && count > ALONE + 1);
    },

    /** Of what was dropped, some had been stored. */
    finds(stored: boolean): void {
      see('an event never arrives that a dead process had stored', stored);
    },

    /** The lease of whoever looks at the account has run out. */
    stalls(lease: string): void {
      const [holder, ...others] = [...atWork].filter(([, ids]) => isBusy(ids)).map(([process]) => process);
      see('a lease runs out while Stripe is read', held.waiting() > 0);
      // Of two at work it is not known from here whose it is.
      if (holder !== undefined && others.length === 0 && held.waiting() > 0)
        stalled = { lease, holder, isLost: false };
    },
    isStalled: () => stalled !== null,
    /** Whose lease it is now that a process has ended some work. */
    seesLease(process: number, lease: string | null): void {
      if (stalled === null) return;
      if (process !== stalled.holder) stalled.isLost ||= lease !== stalled.lease;
      see('a lease is lost between reading and writing', stalled.isLost);
      if (process !== stalled.holder) return;
      see('who lost the lease comes to its end', stalled.isLost);
      stalled = null;
    },

    /** Deliveries as a whole: to how many, and how many at once. */
    delivers(targets: number, events: number): void {
      see('an event arrives at two processes at once', targets > 1 && events > 0);
      see('five events or more arrive at once', events >= 5);
    },

    /** A process died over an event that it was given; `isStored` by the rows. */
    diesOver(isStored: boolean): void {
      see('an event is stored, and its process dies before it says so', isStored);
      see('a process dies before the event that it was given is stored', !isStored);
    },

    /** A process begins to work on events; answers what to call at the end. */
    works(process: number, ids: readonly string[]): (dead: boolean) => void {
      const mine = atWork.get(process) ?? new Map<string, number>();
      atWork.set(process, mine);
      for (const id of ids) mine.set(id, (mine.get(id) ?? 0) + 1);
      const others = [...atWork].some(([at, at_work]) => at !== process && isBusy(at_work));
      see('two processes work for one account at once', others && ids.length > 0);
      see(
        'a process works again on what is done',
        ids.some((id) => done.has(id)),
      );
      see(
        'the other process does what a dead one had begun',
        leftBehind.some((left) => left.by !== process && ids.some((id) => left.ids.has(id))),
      );
      return (dead) => {
        for (const id of ids) mine.set(id, (mine.get(id) ?? 1) - 1);
        if (dead && stalled?.holder === process) stalled = null;
        if (dead) leftBehind.push({ by: process, ids: new Set(ids) });
        else for (const id of ids) done.add(id);
      };
    },

    /** A dead process is started again. */
    startsAgain(process: number): void {
      deaths.push(process);
      see('two deaths in one story', deaths.length > 1);
      see('both processes die in one story', new Set(deaths).size > 1);
    },

    /** A page was asked for and refused. */
    refused({ code }: ProblemError): void {
      see('a page is refused because a subscription lives', code === 'already_subscribed');
      see('a page is refused because the pack was had', code === 'trial_pack_already_redeemed');
    },

    /** A process died over a page that it was to open. */
    diesOverPage(customer: string | null): void {
      see('a process dies with a page that it opens in a story', true);
      const made = [...world.newestFirst('customer')].length > 0;
      see('a customer is made, and the process dies before that is written down', customer === null && made);
    },

    seen: { told, arrived, returns, see } satisfies Seen,

    /** Once everything has been judged. */
    count(): void {
      for (const state of states) reached(state);
    },
  };
}

const isPaused = ({ pause_collection: pause }: Stripe.Subscription): boolean => pause !== null;

const isBusy = (ids: ReadonlyMap<string, number>): boolean => [...ids.values()].some((count) => count > 0);
