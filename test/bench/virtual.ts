/*
 * Thousands of customers of Stripe that cost nothing to make: one real customer of the local Stripe with a
 * subscription, whose answers are told again under other ids.
 */
const OWN_ID = /\b((?:cus|sub|si|in|il|ii|pi|ch|py|pm|src|card|txn|seti|inpay|sub_sched)_[A-Za-z0-9]+)\b/g;
const VIRTUAL = /V([0-9]{8})V/g;

/** The same text about the customer with this number. */
export const retold = (text: string, number: number): string =>
  text.replace(OWN_ID, (id) => `${id}${markOf(number)}`);

/** The text as it is about the real customer, and which customer's it was; null for one that is of none. */
export function original(text: string): { text: string; number: number | null } {
  const number = VIRTUAL.exec(text)?.[1];
  VIRTUAL.lastIndex = 0;
  return { text: text.replace(VIRTUAL, ''), number: number === undefined ? null : Number(number) };
}

const markOf = (number: number): string => `V${String(number).padStart(8, '0')}V`;
