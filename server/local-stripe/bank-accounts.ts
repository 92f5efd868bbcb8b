import { createHash } from 'node:crypto';
import type Stripe from 'stripe';
import type { Behaviour } from './cards.ts';
import { invalidRequest } from './errors.ts';

export interface UsAccount {
  readonly routingNumber: string;
  readonly accountNumber: string;
  readonly holderType: 'individual' | 'company';
  readonly accountType: 'checking' | 'savings';
}

/** What the local Stripe can play in a currency: cards in all, and the bank debits of the two that have them. */
export function methodTypesIn(currency: string): readonly ('card' | 'sepa_debit' | 'us_bank_account')[] {
  if (currency === 'eur') return ['card', 'sepa_debit'];
  return currency === 'usd' ? ['card', 'us_bank_account'] : ['card'];
}

type Made<T extends 'sepa_debit' | 'us_bank_account'> = {
  readonly details: Pick<Stripe.PaymentMethod, 'type'> & Required<Pick<Stripe.PaymentMethod, T>>;
  readonly behaviour: Behaviour;
};

/** A SEPA debit of this IBAN, which settles as Stripe's test IBANs do. Throws 400 for what is no IBAN. */
export function sepaDebit(given: string): Made<'sepa_debit'> {
  const iban = given.replaceAll(' ', '').toUpperCase();
  if (!/^[A-Z]{2}\d{2}[A-Z0-9]{11,30}$/.test(iban)) {
    throw invalidRequest('The bank account number is invalid: it must be an IBAN.', {
      code: 'invalid_bank_account_iban',
      param: 'sepa_debit[iban]',
    });
  }
  return {
    details: {
      type: 'sepa_debit',
      sepa_debit: {
        bank_code: iban.slice(4, 9),
        branch_code: '',
        country: iban.slice(0, 2),
        fingerprint: fingerprint(iban),
        generated_from: { charge: null, setup_attempt: null },
        last4: iban.slice(-4),
      },
    },
    behaviour: behaviourOfAccount(iban),
  };
}

/** A US account, verified at once, which settles as Stripe's test accounts do. Throws 400 for impossible numbers. */
export function usBankAccount(given: UsAccount): Made<'us_bank_account'> {
  const { routingNumber, accountNumber, holderType, accountType } = given;
  if (!/^\d{9}$/.test(routingNumber))
    throw invalidRequest('The routing number is invalid: it has nine digits, such as 110000000.', {
      code: 'routing_number_invalid',
      param: 'us_bank_account[routing_number]',
    });
  if (!/^\d{4,17}$/.test(accountNumber))
    throw invalidRequest('The account number is invalid: it has 4 to 17 digits, such as 000123456789.', {
      code: 'account_number_invalid',
      param: 'us_bank_account[account_number]',
    });
  return {
    details: {
      type: 'us_bank_account',
      us_bank_account: {
        account_holder_type: holderType,
        account_type: accountType,
        bank_name: 'STRIPE TEST BANK',
        financial_connections_account: null,
        fingerprint: fingerprint(`${routingNumber} ${accountNumber}`),
        last4: accountNumber.slice(-4),
        networks: { preferred: 'ach', supported: ['ach'] },
        routing_number: routingNumber,
        status_details: {},
      },
    },
    behaviour: behaviourOfAccount(accountNumber),
  };
}

/** The account `pm_usBankAccount_…` stands for. */
export function usAccountOfAlias(alias: string): UsAccount | undefined {
  const accountNumber = US_ALIASES.get(alias);
  if (accountNumber === undefined) return undefined;
  return { routingNumber: '110000000', accountNumber, holderType: 'individual', accountType: 'checking' };
}

const US_ALIASES: ReadonlyMap<string, string> = new Map([
  ['success', '000123456789'],
  ['accountClosed', '000111111113'],
  ['insufficientFunds', '000222222227'],
  ['debitNotAuthorized', '000333333335'],
]);

const LATER: readonly {
  readonly accounts: readonly string[];
  readonly outcome: 'succeed' | 'fail';
  readonly afterSeconds: number;
}[] = [
  {
    accounts: [
      'AT861904300235473202',
      'DE62370400440532013001',
      'IT60X0542811101000000123456',
      '000111111113',
      '000222222227',
      '000333333335',
    ],
    outcome: 'fail',
    afterSeconds: 2,
  },
  { accounts: ['AT321904300235473204', 'DE08370400440532013003'], outcome: 'succeed', afterSeconds: 180 },
  { accounts: ['AT051904300235473205', 'DE78370400440532013004'], outcome: 'fail', afterSeconds: 180 },
];

/** The documented accounts that fail or take minutes, and success after two seconds for any other. */
function behaviourOfAccount(number: string): Behaviour {
  const known = LATER.find(({ accounts }) => accounts.includes(number));
  return {
    kind: 'settles_later',
    outcome: known?.outcome ?? 'succeed',
    afterSeconds: known?.afterSeconds ?? 2,
  };
}

/** The same card or account has the same fingerprint each time, so that a repeated trial can be noticed. */
export function fingerprint(number: string): string {
  return createHash('sha256').update(number).digest('base64url').replaceAll(/[-_]/g, '').slice(0, 16);
}
