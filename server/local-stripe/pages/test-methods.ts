import { type Html, html } from './html.ts';
import { compact, NOTHING_TYPED, type TypedMethod } from './payment-form.ts';

/** A test card or account as offered on the pages. */
export interface TestMethod {
  readonly key: string;
  readonly name: string;
  /** Its name where something is paid at once, if that is another one. */
  readonly payingName?: string;
  /** What happens where something is paid at once, and where it is only kept for later. */
  readonly outcome: { readonly paying: string; readonly keeping: string };
  readonly method: TypedMethod['method'];
  /** Card or account number, or IBAN. */
  readonly number: string;
}

export const TEST_METHODS: readonly TestMethod[] = [
  {
    key: 'success',
    name: 'Success',
    outcome: { paying: 'paid at once', keeping: 'kept, and pays' },
    method: 'card',
    number: '4242424242424242',
  },
  {
    key: 'declined',
    name: 'Declined',
    outcome: { paying: 'the bank says no', keeping: 'the bank says no' },
    method: 'card',
    number: '4000000000000002',
  },
  {
    key: 'insufficient',
    name: 'Insufficient funds',
    outcome: { paying: 'not enough money', keeping: 'not enough money' },
    method: 'card',
    number: '4000000000009995',
  },
  {
    key: '3ds',
    name: '3D Secure',
    outcome: { paying: 'the bank asks first', keeping: 'the bank asks, now and each time' },
    method: 'card',
    number: '4000002760003184',
  },
  {
    key: 'later',
    name: 'Fails later',
    payingName: 'Cannot be charged',
    outcome: {
      paying: 'refused here; the portal keeps it',
      keeping: 'kept, then every payment fails',
    },
    method: 'card',
    number: '4000000000000341',
  },
  {
    key: 'sepa',
    name: 'SEPA debit',
    outcome: { paying: 'on its way, paid seconds later', keeping: 'kept, pays seconds later' },
    method: 'sepa_debit',
    number: 'DE89370400440532013000',
  },
  {
    key: 'sepa-fails',
    name: 'SEPA debit, fails',
    outcome: { paying: 'on its way, bounces seconds later', keeping: 'kept, then bounces' },
    method: 'sepa_debit',
    number: 'DE62370400440532013001',
  },
  {
    key: 'bank',
    name: 'US bank account',
    outcome: { paying: 'on its way, paid seconds later', keeping: 'kept, pays seconds later' },
    method: 'us_bank_account',
    number: '000123456789',
  },
  {
    key: 'bank-fails',
    name: 'US bank account, fails',
    outcome: { paying: 'on its way, bounces seconds later', keeping: 'kept, then bounces' },
    method: 'us_bank_account',
    number: '000222222227',
  },
];

/** The form as a test method fills it in. Unknown keys fill in nothing. */
export function filledWith(key: string): TypedMethod {
  const test = TEST_METHODS.find((one) => one.key === key);
  return test ? { ...NOTHING_TYPED, method: test.method, ...fieldsOf(test) } : NOTHING_TYPED;
}

function fieldsOf({ method, number }: TestMethod): Partial<TypedMethod> {
  switch (method) {
    case 'card':
      return { number: grouped(number), expiry: '12 / 34', cvc: '123' };
    case 'sepa_debit':
      return { iban: grouped(number) };
    case 'us_bank_account':
      return { routing: '110000000', account: number };
  }
}

/** Buttons that fill in the form: in place by `checkout.js`, without it by loading `address` filled in. */
export function testMethods(
  allowed: readonly string[],
  filled: TypedMethod,
  purpose: 'paying' | 'keeping',
  address: string,
): Html {
  const title = allowed.length > 1 ? 'Test cards and accounts' : 'Test cards';
  const current = compact(filled[NUMBER_FIELD[filled.method]]);
  return html`<form method="get" action="${address}" class="tight no-print" data-tests>
<h2 id="tests">${title}</h2>
<p class="small muted">Choose what shall happen; the form is filled in for you. Further test numbers of Stripe’s documentation can be typed in; any other number is refused.</p>
<ul class="cards" aria-labelledby="tests">${TEST_METHODS.filter((test) => allowed.includes(test.method)).map(
    (
      test,
    ) => html`<li><button name="use" value="${test.key}" data-fill="${fillOf(test)}" data-method="${test.method}" data-name="${nameOf(test, purpose)}" aria-pressed="${String(test.number === current)}">${nameOf(test, purpose)}
<code>${shownNumber(test)}</code><span class="small muted">${test.outcome[purpose]}</span></button></li>`,
  )}</ul>
<p class="hidden" role="status" data-said></p>
</form>`;
}

const nameOf = ({ name, payingName }: TestMethod, purpose: 'paying' | 'keeping'): string =>
  purpose === 'paying' ? (payingName ?? name) : name;

const NUMBER_FIELD = { card: 'number', sepa_debit: 'iban', us_bank_account: 'account' } as const;

const fillOf = (test: TestMethod): string => new URLSearchParams(Object.entries(fieldsOf(test))).toString();

const shownNumber = ({ method, number }: TestMethod): string =>
  method === 'us_bank_account' ? number : grouped(number);

const grouped = (digits: string): string => digits.replace(/(.{4})(?=.)/g, '$1 ');
