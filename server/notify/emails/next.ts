import { day, moment, planName } from '../format.ts';
import type { Next } from '../templates.ts';

/** What comes next as a row of facts; none where nothing may be promised. */
export function nextFact(next: Next): readonly [string, string] | null {
  switch (next?.kind) {
    case 'renews':
      return ['Renews on', day(next.at)];
    case 'changes':
      return ['Changes on', `${day(next.at)}, to ${planName(next.to)}`];
    case 'ends':
      return ['Ends', moment(next.at)];
    case 'bills':
    case 'bills_if_it_can':
      return ['Trial ends', moment(next.at)];
    default:
      return null;
  }
}

/** The same as a sentence. */
export function nextSentence(next: Next): string | null {
  switch (next?.kind) {
    case 'renews':
      return `It renews on ${day(next.at)}.`;
    case 'changes':
      return `On ${day(next.at)} it changes to ${planName(next.to)}.`;
    case 'ends':
      return `It is set to end on ${day(next.at)}.`;
    case 'bills':
      return `The trial ends on ${day(next.at)}, and billing begins.`;
    case 'bills_if_it_can':
      return `The trial ends on ${day(next.at)}. ${BY_METHOD[next.otherwise]}`;
    default:
      return null;
  }
}

/** What Stripe does at the end of a trial, which depends on what it has by then. */
export const BY_METHOD = {
  paused: 'With a payment method, billing begins then; without one, the subscription is put on hold.',
  ended: 'With a payment method, billing begins then; without one, the subscription ends.',
} as const;
