/** Why an account is synchronised: events that wait for it, a customer back from Checkout, or a comparison. */
export type Cause =
  | { kind: 'events' }
  | { kind: 'checkout_session'; sessionId: string }
  | { kind: 'reconcile'; by: string };
