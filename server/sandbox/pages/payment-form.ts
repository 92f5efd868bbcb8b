import { field } from './door.ts';
import { type Html, html } from './html.ts';

/** What a person may type where a payment method is asked for. Kept as typed, so a refused form shows it again. */
export interface TypedMethod {
  readonly method: 'card' | 'sepa_debit';
  readonly number: string;
  readonly expiry: string;
  readonly cvc: string;
  readonly iban: string;
}

type FieldName = keyof TypedMethod | 'email';
export type FieldErrors = Partial<Record<FieldName, string>>;

/** A test card or account as offered on the pages. */
export interface TestMethod {
  readonly key: string;
  readonly name: string;
  readonly outcome: string;
  readonly method: TypedMethod['method'];
  /** Card number or IBAN. */
  readonly number: string;
}

export const TEST_METHODS: readonly TestMethod[] = [
  { key: 'success', name: 'Success', outcome: 'paid at once', method: 'card', number: '4242424242424242' },
  {
    key: 'declined',
    name: 'Declined',
    outcome: 'the bank says no',
    method: 'card',
    number: '4000000000000002',
  },
  {
    key: 'insufficient',
    name: 'Insufficient funds',
    outcome: 'not enough money',
    method: 'card',
    number: '4000000000009995',
  },
  {
    key: '3ds',
    name: '3D Secure',
    outcome: 'the bank asks first',
    method: 'card',
    number: '4000002760003184',
  },
  {
    key: 'later',
    name: 'Fails later',
    outcome: 'kept, never charged',
    method: 'card',
    number: '4000000000000341',
  },
  {
    key: 'sepa',
    name: 'SEPA debit',
    outcome: 'paid some days later',
    method: 'sepa_debit',
    number: 'DE89370400440532013000',
  },
  {
    key: 'sepa-fails',
    name: 'SEPA debit, fails',
    outcome: 'bounces some days later',
    method: 'sepa_debit',
    number: 'DE62370400440532013001',
  },
];

export const NOTHING_TYPED: TypedMethod = { method: 'card', number: '', expiry: '', cvc: '', iban: '' };

/** The form as a test method fills it in. Unknown keys fill in nothing. */
export function filledWith(key: string): TypedMethod {
  const test = TEST_METHODS.find((one) => one.key === key);
  if (!test) return NOTHING_TYPED;
  if (test.method === 'sepa_debit')
    return { ...NOTHING_TYPED, method: 'sepa_debit', iban: grouped(test.number) };
  return { ...NOTHING_TYPED, number: grouped(test.number), expiry: '12 / 34', cvc: '123' };
}

export function typedMethod(body: unknown): TypedMethod {
  return {
    method: field(body, 'method') === 'sepa_debit' ? 'sepa_debit' : 'card',
    number: field(body, 'number'),
    expiry: field(body, 'expiry'),
    cvc: field(body, 'cvc'),
    iban: field(body, 'iban'),
  };
}

/** What is wrong with the typed payment method, per field; empty when nothing is. `now` in unix seconds. */
export function checkMethod(typed: TypedMethod, now: number): FieldErrors {
  if (typed.method === 'sepa_debit')
    return /^[A-Z]{2}\d{2}[A-Z0-9]{10,30}$/.test(compact(typed.iban).toUpperCase())
      ? {}
      : { iban: 'Enter an IBAN: two letters, two digits, then the account.' };
  const errors: FieldErrors = {};
  const digits = compact(typed.number);
  if (!/^\d{12,19}$/.test(digits)) errors.number = 'Enter the card number: 12 to 19 digits.';
  else if (!luhn(digits)) errors.number = 'This card number has a typing mistake.';
  const expiry = /^(\d{1,2})\s*\/\s*(\d{2}|\d{4})$/.exec(typed.expiry);
  const month = Number(expiry?.[1]);
  if (!expiry || month < 1 || month > 12) errors.expiry = 'Enter the month and year as MM / YY.';
  else if (Date.UTC(2000 + (Number(expiry[2]) % 100), month, 1) / 1000 <= now)
    errors.expiry = 'This card has expired.';
  if (!/^\d{3,4}$/.test(typed.cvc)) errors.cvc = 'Enter the 3 or 4 digits of the security code.';
  return errors;
}

/** The methods that can be offered for a currency: SEPA debits are in euro only. */
export function offered(types: readonly string[], currency: string | null): readonly string[] {
  return types.filter((type) => type !== 'sepa_debit' || currency === 'eur');
}

export const compact = (text: string): string => text.replace(/\s+/g, '');

/** Buttons that fill in the form: in place by `checkout.js`, without it by loading the page filled in. */
export function testMethods(allowed: readonly string[], filled: TypedMethod): Html {
  const current = compact(filled.method === 'card' ? filled.number : filled.iban);
  return html`<form method="get" class="tight no-print" data-tests>
<h2 id="tests">Test cards</h2>
<p class="small muted">Choose what shall happen; the form is filled in for you. No other card is accepted.</p>
<ul class="cards" aria-labelledby="tests">${TEST_METHODS.filter((test) => allowed.includes(test.method)).map(
    (
      test,
    ) => html`<li><button name="use" value="${test.key}" data-fill="${fillOf(test)}" data-method="${test.method}" data-name="${test.name}" aria-pressed="${String(test.number === current)}">${test.name}
<code>${grouped(test.number)}</code><span class="small muted">${test.outcome}</span></button></li>`,
  )}</ul>
<p class="hidden" role="status" data-said></p>
</form>`;
}

const fillOf = (test: TestMethod): string => {
  const { number, expiry, cvc, iban } = filledWith(test.key);
  return new URLSearchParams(test.method === 'sepa_debit' ? { iban } : { number, expiry, cvc }).toString();
};

/** The fields of a payment method: a card, and a bank account where that is allowed. */
export function methodFields(allowed: readonly string[], typed: TypedMethod, errors: FieldErrors): Html {
  const withSepa = allowed.includes('sepa_debit');
  const withCard = allowed.includes('card') || !withSepa;
  const method = withSepa && withCard ? chooser(typed.method) : hiddenMethod(withCard);
  return html`<fieldset>
<legend${withCard && withSepa ? null : html` class="hidden"`}>Pay with</legend>
${method}
${withCard ? cardFields(typed, errors) : null}
${withSepa ? html`<div class="for-sepa">${labelled('iban', 'IBAN', errors, html`<input class="number" id="iban" name="iban" value="${typed.iban}" autocomplete="off" spellcheck="false" maxlength="42"${aria('iban', errors)}>`)}</div>` : null}
</fieldset>`;
}

function cardFields(typed: TypedMethod, errors: FieldErrors): Html {
  return html`<div class="stack for-card">
${labelled('number', 'Card number', errors, html`<input class="number" id="number" name="number" value="${typed.number}" inputmode="numeric" autocomplete="off" spellcheck="false" placeholder="1234 1234 1234 1234" maxlength="23"${aria('number', errors)}>`)}
<div class="pair">
${labelled('expiry', 'Expires (MM / YY)', errors, html`<input class="number" id="expiry" name="expiry" value="${typed.expiry}" inputmode="numeric" autocomplete="off" placeholder="12 / 34" maxlength="9"${aria('expiry', errors)}>`)}
${labelled('cvc', 'Security code', errors, html`<input class="number" id="cvc" name="cvc" value="${typed.cvc}" inputmode="numeric" autocomplete="off" placeholder="123" maxlength="4"${aria('cvc', errors)}>`)}
</div>
</div>`;
}

/** A label, its input, and under it what is wrong with what was typed. */
export function labelled(name: FieldName, label: string, errors: FieldErrors, input: Html): Html {
  const error = errors[name];
  return html`<div class="field"><label for="${name}">${label}</label>${input}${
    error === undefined ? null : html`<p class="error small" id="${name}-error">${error}</p>`
  }</div>`;
}

/** Ties an input to what is wrong with it. */
export function aria(name: FieldName, errors: FieldErrors): Html | null {
  return errors[name] === undefined ? null : html` aria-invalid="true" aria-describedby="${name}-error"`;
}

function chooser(current: TypedMethod['method']): Html {
  const choice = (value: TypedMethod['method'], label: string, hint: string): Html =>
    html`<label class="choice"><input type="radio" name="method" value="${value}"${value === current ? html` checked` : null}><span>${label}<br><span class="small muted">${hint}</span></span></label>`;
  return html`<div class="choices">${choice('card', 'Card', 'Paid at once')}${choice('sepa_debit', 'SEPA direct debit', 'Confirmed some days later')}</div>`;
}

const hiddenMethod = (withCard: boolean): Html =>
  html`<input type="hidden" name="method" value="${withCard ? 'card' : 'sepa_debit'}">`;

const grouped = (digits: string): string => digits.replace(/(.{4})(?=.)/g, '$1 ');

function luhn(digits: string): boolean {
  let sum = 0;
  for (const [index, digit] of [...digits].reverse().entries()) {
    const value = Number(digit) * (index % 2 === 1 ? 2 : 1);
    sum += value > 9 ? value - 9 : value;
  }
  return sum % 10 === 0;
}
