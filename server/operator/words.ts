/** How a command names an account: whoever answers a customer has an address, and seldom an id. */
export const ACCOUNT = 'ACCOUNT';

/** What `ACCOUNT` means on the command line. */
export const ACCOUNT_HELP = `${ACCOUNT} is an account's id (acc_…) or its e-mail address.`;

/** What becomes of an event of Stripe. */
export const EVENT_STATES = ['received', 'done', 'ignored', 'dead'] as const;

/** How many events are listed. */
export const EVENTS_SHOWN = 100;
