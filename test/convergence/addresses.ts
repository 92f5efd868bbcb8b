import fc from 'fast-check';
import type Stripe from 'stripe';
import { expect } from 'vitest';
import type { AuditEntry, Email } from '../../server/database/entities/journal.ts';
import type { Command } from './commands.ts';
import type { Entry, Look } from './money-endings.ts';
import type { Ending } from './story.ts';
import type { Heard } from './witness.ts';

/** What a story can make of an account's address; `which` is one of the few that there are. */
export type AddressCommand =
  /** The customer sets it at Stripe. */
  | { do: 'set_address'; which: number }
  /** Staff sets it with us. */
  | { do: 'staff_sets_address'; which: number; process: number; background: boolean }
  /** Another account has it from now on, if it is free. */
  | { do: 'other_takes_address'; which: number };

/** The address that the account begins with, two others, as people write them, and one that is none. */
const NAMES = ['', 'first.', 'Second.'] as const;

export function addressOf(accountId: string, which: number): string {
  const name = NAMES[which];
  return name === undefined ? 'nobody at home' : `${name}${accountId}@driftstack.test`;
}

const inLowerCase = (address: string | null): string | null => address?.toLowerCase() ?? null;

/** What is drawn at any time, and what has to come in one order. */
export function addressArcs(deliverAll: Extract<Command, { do: 'deliver' }>): fc.Arbitrary<Command[]> {
  const which = fc.constantFrom(0, 1, 1, 2, 2, 3);
  const process = fc.constantFrom(0, 1);
  const set = which.map((one): Command => ({ do: 'set_address', which: one }));
  const byStaff = fc.record({
    do: fc.constant('staff_sets_address' as const),
    which,
    process,
    background: fc.boolean(),
  });
  const taken = which.map((one): Command => ({ do: 'other_takes_address', which: one }));
  const alone = fc.oneof(set, byStaff, taken).map((one) => [one]);
  const dying = fc.tuple(fc.constantFrom(1, 2, 3, 4), which, process).map(([points, one, at]): Command[] => [
    { do: 'doom', process: at, points },
    { do: 'staff_sets_address', which: one, process: at, background: false },
  ]);
  const overtaken = fc
    .tuple(process, fc.constantFrom(1, 2), fc.oneof(set, taken))
    .map(([at, one, meanwhile]): Command[] => [
      { do: 'slow', process: at, holds: [3] },
      { do: 'staff_sets_address', which: one, process: at, background: true },
      meanwhile,
      { ...deliverAll, to: 1 - at },
    ]);
  const putRight: fc.Arbitrary<Command[]> = fc.constant([
    { do: 'other_takes_address', which: 1 },
    { do: 'set_address', which: 1 },
    deliverAll,
    { do: 'set_address', which: 2 },
  ]);
  const missed = which.map((one): Command[] => [
    deliverAll,
    { do: 'set_address', which: one },
    { do: 'drop', pick: 0 },
  ]);
  const late = which.map((one): Command[] => [
    { do: 'set_address', which: one },
    { do: 'other_takes_address', which: one },
  ]);
  return fc.oneof({ weight: 3, arbitrary: alone }, dying, overtaken, putRight, missed, late);
}

/** The addresses that Stripe had for the customer, one after another, from the first. */
function heldByStripe(told: readonly Heard[], first: string): string[] {
  return [
    first,
    ...told.flatMap(({ type, about, before }) =>
      type === 'customer.updated' && 'email' in before ? String(about['email']) : [],
    ),
  ];
}

/**
 * Ours is the one that Stripe has, unless that is none or another account's, of which the log then speaks last. Each
 * change is told once, to the address before it, and nothing is told that Stripe never had.
 */
export function addressIsStripes(
  { lane, witness, accountId, customer, otherAddresses }: Ending,
  ours: string,
  log: readonly AuditEntry[],
  mails: readonly Email[],
): void {
  const first = addressOf(accountId, 0);
  const { email } = lane.localStripe.world.get('customer', String(customer)) as Stripe.Customer;
  const held = heldByStripe(witness.seen.told, first).map(inLowerCase);
  const entries = log.filter(({ action }) => action.startsWith('account.email_change'));
  const refused = entries.filter(({ action }) => action === 'account.email_change_refused');
  const changed = entries.filter(({ action }) => action === 'account.email_changed');
  const isOurs = !otherAddresses.has(String(inLowerCase(email))) && email?.includes(' ') === false;
  if (isOurs) expect(ours, 'our address is the one that Stripe has').toBe(inLowerCase(email));
  else
    expect(entries.at(-1)?.payload, 'what is not taken is told').toMatchObject({
      kept: ours,
      refused: inLowerCase(email),
      because: email?.includes(' ') ? 'invalid' : 'taken',
    });
  let before = first;
  for (const { payload } of changed) {
    expect(payload['from'], 'each address follows on the one before').toBe(before);
    expect(payload['to'], 'and is another').not.toBe(before);
    before = String(payload['to']);
    expect(held, 'Stripe had this address').toContain(before);
  }
  expect(ours, 'the log ends with the address that holds').toBe(before);
  expect(changed.length, 'told no more often than it changed').toBeLessThan(held.length);
  expect(refused.length, 'told no more often than it was tried').toBeLessThan(held.length);
  expect(
    mails
      .filter(({ template }) => template === 'email_changed')
      .map(({ naturalKey, toAddress }) => `${naturalKey} ${toAddress}`)
      .sort(),
    'each change is told to the address before it',
  ).toEqual(changed.map(({ dedupeKey, payload }) => `${dedupeKey} ${payload['from']}`).sort());
  const had = [first, ...changed.map(({ payload }) => payload['to'])];
  for (const { toAddress } of mails) expect(had, 'mails go to where the account is').toContain(toAddress);
}

/** The rare states of addresses, as far as the end shows them. */
export function ofAddresses(
  see: Look,
  { accountId, witness, lost, staffSet, customerSet }: Ending,
  log: readonly Entry[],
  mails: readonly Pick<Email, 'template' | 'toAddress'>[],
): void {
  const held = heldByStripe(witness.seen.told, addressOf(accountId, 0)).map(inLowerCase);
  const changed = log.filter(({ action }) => action === 'account.email_changed');
  const refused = log.filter(({ action }) => action === 'account.email_change_refused');
  const staffOnly = new Set([...staffSet].filter((one) => !customerSet.has(one)));
  const because = (why: string) => refused.some(({ payload }) => payload['because'] === why);
  see(
    'an address is changed at Stripe',
    changed.some(({ actorType }) => actorType === 'system'),
  );
  see(
    'an address is set by staff',
    changed.some(({ actorType }) => actorType === 'staff'),
  );
  see(
    'an address that staff sets is heard of from Stripe first',
    changed.some(({ actorType, payload }) => actorType === 'system' && staffOnly.has(String(payload['to']))),
  );
  see('an address is refused that another account has', because('taken'));
  see('an address is refused that is none', because('invalid'));
  see(
    'a refused address is put right',
    refused.some(({ payload }) => payload['refused'] !== held.at(-1)),
  );
  see('an address changes again before we hear of it', changed.length + refused.length < held.length - 1);
  see('an account has an address again that it had before', new Set(held).size < held.length);
  see(
    'an address is changed and nobody tells us',
    lost.some(
      ({ type, body }) => type === 'customer.updated' && body.includes('"previous_attributes":{"email"'),
    ),
  );
  const [first] = held;
  see(
    'a mail waits for an address that is not the account’s any more',
    changed.length > 0 &&
      mails.some(({ template, toAddress }) => template !== 'email_changed' && toAddress === first),
  );
}
