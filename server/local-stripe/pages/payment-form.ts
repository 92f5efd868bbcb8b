import { field } from './door.ts';
import { type Html, html } from './html.ts';

export const METHOD_TYPES = ['card', 'sepa_debit', 'us_bank_account'] as const;
export type MethodType = (typeof METHOD_TYPES)[number];

/** What a person may type where a payment method is asked for. Kept as typed, so a refused form shows it again. */
export interface TypedMethod {
  readonly method: MethodType;
  readonly number: string;
  readonly expiry: string;
  readonly cvc: string;
  readonly iban: string;
  readonly routing: string;
  readonly account: string;
}

type FieldName = keyof TypedMethod | 'email';
export type FieldErrors = Partial<Record<FieldName, string>>;

export const NOTHING_TYPED: TypedMethod = {
  method: 'card',
  number: '',
  expiry: '',
  cvc: '',
  iban: '',
  routing: '',
  account: '',
};

/** The payment method a form was sent with. */
export function typedMethod(body: unknown): TypedMethod {
  return {
    method: METHOD_TYPES.find((type) => type === field(body, 'method')) ?? 'card',
    number: field(body, 'number'),
    expiry: field(body, 'expiry'),
    cvc: field(body, 'cvc'),
    iban: field(body, 'iban'),
    routing: field(body, 'routing'),
    account: field(body, 'account'),
  };
}

/** What is wrong with the typed payment method, per field; empty when nothing is. `now` in unix seconds. */
export function checkMethod(typed: TypedMethod, now: number): FieldErrors {
  if (typed.method === 'sepa_debit')
    return /^[A-Z]{2}\d{2}[A-Z0-9]{10,30}$/.test(compact(typed.iban).toUpperCase())
      ? {}
      : { iban: 'Enter an IBAN: two letters, two digits, then the account.' };
  const errors: FieldErrors = {};
  if (typed.method === 'us_bank_account') {
    if (!/^\d{9}$/.test(compact(typed.routing))) errors.routing = 'Enter the nine digits of the bank.';
    if (!/^\d{4,17}$/.test(compact(typed.account)))
      errors.account = 'Enter the account number: 4 to 17 digits.';
    return errors;
  }
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

/** The methods that can be offered for a currency: each kind of bank debit has one of its own. */
export function offered(types: readonly string[], currency: string | null): readonly MethodType[] {
  const own = { card: currency, sepa_debit: 'eur', us_bank_account: 'usd' } as const;
  return METHOD_TYPES.filter((type) => types.includes(type) && own[type] === currency);
}

export const compact = (text: string): string => text.replace(/\s+/g, '');

/** The fields of each payment method that is allowed, the chosen one shown. */
export function methodFields(allowed: readonly MethodType[], typed: TypedMethod, errors: FieldErrors): Html {
  const [only = 'card', ...others] = allowed;
  const types = [only, ...others];
  const several = others.length > 0;
  return html`<fieldset>
<legend${several ? null : html` class="hidden"`}>Pay with</legend>
${several ? chooser(types, typed.method) : html`<input type="hidden" name="method" value="${only}">`}
${types.map((type) => html`<div class="stack for-${type}">${FIELDS[type](typed, errors)}</div>`)}
</fieldset>`;
}

const FIELDS: Readonly<Record<MethodType, (typed: TypedMethod, errors: FieldErrors) => Html>> = {
  card: cardFields,
  sepa_debit: (typed, errors) =>
    labelled(
      'iban',
      'IBAN',
      errors,
      html`<input class="number" id="iban" name="iban" value="${typed.iban}" autocomplete="off" spellcheck="false" maxlength="42"${aria('iban', errors)}>`,
    ),
  us_bank_account: (typed, errors) => html`<div class="pair">
${labelled('routing', 'Routing number', errors, html`<input class="number" id="routing" name="routing" value="${typed.routing}" inputmode="numeric" autocomplete="off" placeholder="110000000" maxlength="11"${aria('routing', errors)}>`)}
${labelled('account', 'Account number', errors, html`<input class="number" id="account" name="account" value="${typed.account}" inputmode="numeric" autocomplete="off" maxlength="20"${aria('account', errors)}>`)}
</div>`,
};

function cardFields(typed: TypedMethod, errors: FieldErrors): Html {
  return html`${labelled('number', 'Card number', errors, html`<input class="number" id="number" name="number" value="${typed.number}" inputmode="numeric" autocomplete="off" spellcheck="false" placeholder="1234 1234 1234 1234" maxlength="23"${aria('number', errors)}>`)}
<div class="pair">
${labelled('expiry', 'Expires (MM / YY)', errors, html`<input class="number" id="expiry" name="expiry" value="${typed.expiry}" inputmode="numeric" autocomplete="off" placeholder="12 / 34" maxlength="9"${aria('expiry', errors)}>`)}
${labelled('cvc', 'Security code', errors, html`<input class="number" id="cvc" name="cvc" value="${typed.cvc}" inputmode="numeric" autocomplete="off" placeholder="123" maxlength="4"${aria('cvc', errors)}>`)}
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

function chooser(types: readonly MethodType[], current: MethodType): Html {
  return html`<div class="choices">${types.map(
    (type) =>
      html`<label class="choice"><input type="radio" name="method" value="${type}"${type === current ? html` checked` : null}><span>${NAMES[type].label}<br><span class="small muted">${NAMES[type].hint}</span></span></label>`,
  )}</div>`;
}

const NAMES: Readonly<Record<MethodType, { readonly label: string; readonly hint: string }>> = {
  card: { label: 'Card', hint: 'Paid at once' },
  sepa_debit: { label: 'SEPA direct debit', hint: 'On its way first, confirmed later' },
  us_bank_account: { label: 'US bank account', hint: 'On its way first, confirmed later' },
};

function luhn(digits: string): boolean {
  let sum = 0;
  for (const [index, digit] of [...digits].reverse().entries()) {
    const value = Number(digit) * (index % 2 === 1 ? 2 : 1);
    sum += value > 9 ? value - 9 : value;
  }
  return sum % 10 === 0;
}
