/** How a test payment method behaves when it is used. Kept in the hidden store: Stripe never shows it. */
export type Behaviour =
  | { readonly kind: 'pays' }
  /** Pays, and at once the customer's bank takes the payment back. */
  | { readonly kind: 'disputed'; readonly reason: string }
  | { readonly kind: 'declines'; readonly decline: DeclineName; readonly attaches: boolean }
  /** Asks for 3D Secure each time, or (`unless_set_up`) only until it was once authenticated for later use. */
  | { readonly kind: 'authenticates'; readonly when: 'always' | 'unless_set_up' }
  /** Bank debits: `processing` first, settled `afterSeconds` later. */
  | { readonly kind: 'settles_later'; readonly outcome: 'succeed' | 'fail'; readonly afterSeconds: number };

export interface TestCard {
  readonly number: string;
  readonly brand: string;
  readonly funding: 'credit' | 'debit';
  /** Names under which it is known: `tok_visa` and `pm_card_visa` for `visa`. */
  readonly aliases: readonly string[];
  readonly behaviour: Behaviour;
}

/** Why a card was declined: Stripe's `code`, `decline_code` and message. */
export const DECLINES = {
  generic_decline: { code: 'card_declined', message: 'Your card was declined.' },
  insufficient_funds: { code: 'card_declined', message: 'Your card has insufficient funds.' },
  lost_card: { code: 'card_declined', message: 'Your card was declined.' },
  stolen_card: { code: 'card_declined', message: 'Your card was declined.' },
  fraudulent: { code: 'card_declined', message: 'Your card was declined.' },
  card_velocity_exceeded: {
    code: 'card_declined',
    message: 'Your card was declined for making repeated attempts too frequently.',
  },
  expired_card: { code: 'expired_card', message: 'Your card has expired.' },
  incorrect_cvc: { code: 'incorrect_cvc', message: "Your card's security code is incorrect." },
  processing_error: {
    code: 'processing_error',
    message: 'An error occurred while processing your card. Try again in a little bit.',
  },
  authentication_required: {
    code: 'authentication_required',
    message: 'Your card was declined. This transaction requires authentication.',
  },
} as const satisfies Record<string, { code: string; message: string }>;

export type DeclineName = keyof typeof DECLINES;

const pays: Behaviour = { kind: 'pays' };
const declines = (decline: DeclineName): Behaviour => ({ kind: 'declines', decline, attaches: false });

/** The test cards of Stripe's documentation that the local Stripe knows. Any other number that passes is refused. */
export const TEST_CARDS: readonly TestCard[] = [
  card('4242424242424242', 'visa', ['visa', 'us'], pays),
  card('4000056655665556', 'visa', ['visa_debit'], pays, 'debit'),
  card('5555555555554444', 'mastercard', ['mastercard'], pays),
  card('5200828282828210', 'mastercard', ['mastercard_debit'], pays, 'debit'),
  card('378282246310005', 'amex', ['amex'], pays),
  card('6011111111111117', 'discover', ['discover'], pays),
  card('3056930009020004', 'diners', ['diners'], pays),
  card('3566002020360505', 'jcb', ['jcb'], pays),
  card('6200000000000005', 'unionpay', ['unionpay'], pays),
  card('4000000000000002', 'visa', ['chargeDeclined', 'visa_chargeDeclined'], declines('generic_decline')),
  card(
    '4000000000009995',
    'visa',
    ['chargeDeclinedInsufficientFunds', 'visa_chargeDeclinedInsufficientFunds'],
    declines('insufficient_funds'),
  ),
  card('4000000000009987', 'visa', ['visa_chargeDeclinedLostCard'], declines('lost_card')),
  card('4000000000009979', 'visa', ['visa_chargeDeclinedStolenCard'], declines('stolen_card')),
  card('4100000000000019', 'visa', ['radarBlock'], declines('fraudulent')),
  card(
    '4000000000006975',
    'visa',
    ['visa_chargeDeclinedVelocityLimitExceeded'],
    declines('card_velocity_exceeded'),
  ),
  card(
    '4000000000000069',
    'visa',
    ['chargeDeclinedExpiredCard', 'visa_chargeDeclinedExpiredCard'],
    declines('expired_card'),
  ),
  card(
    '4000000000000127',
    'visa',
    ['chargeDeclinedIncorrectCvc', 'visa_chargeDeclinedIncorrectCvc'],
    declines('incorrect_cvc'),
  ),
  card(
    '4000000000000119',
    'visa',
    ['chargeDeclinedProcessingError', 'visa_chargeDeclinedProcessingError'],
    declines('processing_error'),
  ),
  card('4000000000000259', 'visa', ['createDispute'], { kind: 'disputed', reason: 'fraudulent' }),
  card('4000000000002685', 'visa', ['createDisputeProductNotReceived'], {
    kind: 'disputed',
    reason: 'product_not_received',
  }),
  card('4000000000001976', 'visa', ['createDisputeInquiry'], { kind: 'disputed', reason: 'general' }),
  card('4000000000000341', 'visa', ['chargeCustomerFail'], {
    kind: 'declines',
    decline: 'generic_decline',
    attaches: true,
  }),
  card('4000002500003155', 'visa', ['authenticationRequiredOnSetup'], {
    kind: 'authenticates',
    when: 'unless_set_up',
  }),
  card('4000002760003184', 'visa', ['authenticationRequired', 'threeDSecure2Required'], {
    kind: 'authenticates',
    when: 'always',
  }),
];

/** The card of a number (spaces allowed) or of an alias without its `tok_` or `pm_card_`. */
export function testCard(numberOrAlias: string): TestCard | undefined {
  const wanted = numberOrAlias.replaceAll(' ', '');
  return TEST_CARDS.find(({ number, aliases }) => number === wanted || aliases.includes(wanted));
}

function card(
  number: string,
  brand: string,
  aliases: readonly string[],
  behaviour: Behaviour,
  funding: 'credit' | 'debit' = 'credit',
): TestCard {
  return { number, brand, funding, aliases, behaviour };
}
