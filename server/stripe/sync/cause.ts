import type { Source } from './effects.ts';

/** Why an account is synchronised: events that wait for it, a customer back from Checkout, or a comparison. */
export type Cause =
  | { kind: 'events' }
  | { kind: 'checkout_session'; sessionId: string }
  | { kind: 'reconcile'; by: string };

/** What is written into the audit log as the reason: the event where there is one. */
export function sourceOf(cause: Cause, eventId: string | undefined): Source {
  if (eventId !== undefined) return { stripe_event_id: eventId };
  switch (cause.kind) {
    case 'events':
      return {};
    case 'checkout_session':
      return { checkout_session_id: cause.sessionId };
    case 'reconcile':
      return { reconciled_by: cause.by };
  }
}
