import type Stripe from 'stripe';
import { fingerprint, sepaDebit, type UsAccount, usAccountOfAlias, usBankAccount } from './bank-accounts.ts';
import { type Behaviour, DECLINES, type DeclineName, type TestCard, testCard } from './cards.ts';
import { invalidRequest, resourceMissing, StripeError } from './errors.ts';
import { type MetadataChange, mergeMetadata } from './params.ts';
import type { World } from './world.ts';

/** What a payment method is made from: `tok_visa`, `pm_card_visa`, a test card's number, or a bank account. */
export type TestPaymentSource =
  | { readonly token: string }
  | { readonly pmAlias: string }
  | { readonly card: { number: string; expMonth: number; expYear: number; cvc?: string | undefined } }
  | { readonly iban: string }
  | { readonly usAccount: UsAccount };

/**
 * Makes a payment method that behaves as Stripe's documented test card or account does. Throws 400 for an unknown
 * token, and 402 `incorrect_number` or `expired_card` for a card that could not exist.
 */
export function createTestPaymentMethod(
  world: World,
  source: TestPaymentSource,
  billingDetails: Partial<Stripe.PaymentMethod.BillingDetails> = {},
  metadata?: MetadataChange,
): Stripe.PaymentMethod {
  const { details, behaviour } = detailsOf(world, source);
  const method: Stripe.PaymentMethod = {
    id: world.newId('payment_method'),
    object: 'payment_method',
    allow_redisplay: 'unspecified',
    billing_details: {
      address: { city: null, country: null, line1: null, line2: null, postal_code: null, state: null },
      email: null,
      name: null,
      phone: null,
      tax_id: null,
      ...billingDetails,
    },
    created: world.now(),
    customer: null,
    customer_account: null,
    livemode: false,
    metadata: mergeMetadata({}, metadata),
    ...details,
  };
  world.hidden.put('behaviour', method.id, behaviour);
  return world.add('payment_method', method);
}

/** The method an id names; an alias such as `pm_card_visa` makes a new one, as it does at Stripe. */
export function resolvePaymentMethod(
  world: World,
  idOrAlias: string,
  param = 'payment_method',
): Stripe.PaymentMethod {
  if (idOrAlias.startsWith('pm_card_') || idOrAlias.startsWith(US_ALIAS))
    return createTestPaymentMethod(world, { pmAlias: idOrAlias });
  return world.get('payment_method', idOrAlias, param);
}

/** How a method behaves when it is used. */
export function behaviourOf(world: World, methodId: string): Behaviour {
  return world.hidden.get<Behaviour>('behaviour', methodId) ?? { kind: 'pays' };
}

/**
 * Attaches a method (or an alias) to a customer; tells payment_method.attached. Attaching it again to the same
 * customer changes nothing. Throws 402 for a card that its bank declines, and 400 when another customer has it.
 */
export function attachPaymentMethod(
  world: World,
  idOrAlias: string,
  customer: string,
  param = 'payment_method',
): Stripe.PaymentMethod {
  const method = resolvePaymentMethod(world, idOrAlias, param);
  const owner = world.get('customer', customer, 'customer');
  if (owner.deleted) throw resourceMissing('customer', customer, 'customer');
  if (method.customer === customer) return method;
  if (method.customer !== null) {
    throw invalidRequest(
      'The payment method you provided has already been attached to a customer. Detach it first, or use another one.',
      { code: 'payment_method_already_attached', param },
    );
  }
  const behaviour = behaviourOf(world, method.id);
  if (behaviour.kind === 'declines' && !behaviour.attaches) throw cardRefused(behaviour.decline);
  return adopt(world, method, customer);
}

/** Gives a method to a customer without asking its bank: after a payment that was made with it. */
export function adopt(world: World, method: Stripe.PaymentMethod, customer: string): Stripe.PaymentMethod {
  // The owner of a stored object is indexed when it is first stored, so an attached method is stored anew.
  world.store.remove('payment_method', method.id);
  return world.add('payment_method', { ...method, customer }, 'payment_method.attached');
}

/** Takes a method from its customer for good; tells payment_method.detached. */
export function detachPaymentMethod(world: World, id: string): Stripe.PaymentMethod {
  const method = world.get('payment_method', id);
  const customer = method.customer;
  if (typeof customer !== 'string')
    throw invalidRequest(
      'The payment method you provided is not attached to a customer so detachment is impossible.',
    );
  const detached = { ...method, customer: null };
  world.store.remove('payment_method', id);
  world.store.put('payment_method', detached);
  const owner = world.find('customer', customer);
  if (owner && !owner.deleted && owner.invoice_settings.default_payment_method === id) {
    world.change(
      'customer',
      customer,
      { invoice_settings: { ...owner.invoice_settings, default_payment_method: null } },
      'customer.updated',
    );
  }
  world.emit('payment_method.detached', detached, { customer });
  return detached;
}

/** Takes a deleted customer's methods from it. To be called once, when the world opens. */
export function registerPaymentMethods(world: World): void {
  world.react('customer.deleted', (_world, { id }) => {
    if (id === undefined) return;
    for (const method of world.ofCustomer('payment_method', id)) {
      world.store.remove('payment_method', method.id);
      const detached: Stripe.PaymentMethod = { ...method, customer: null };
      world.store.put('payment_method', detached);
    }
  });
}

/** 402 `card_error` in the words of a decline. */
export function cardRefused(decline: DeclineName, extra: Record<string, unknown> = {}): StripeError {
  const { code, message } = DECLINES[decline];
  return new StripeError({ status: 402, type: 'card_error', code, declineCode: decline, message, extra });
}

const US_ALIAS = 'pm_usBankAccount_';

type Details = Pick<Stripe.PaymentMethod, 'type' | 'card' | 'sepa_debit' | 'us_bank_account'>;

function detailsOf(world: World, source: TestPaymentSource): { details: Details; behaviour: Behaviour } {
  if ('iban' in source) return sepaDebit(source.iban);
  if ('usAccount' in source) return usBankAccount(source.usAccount);
  if ('card' in source) return ownCard(world, source.card);
  const account = 'pmAlias' in source ? usAccountOfAlias(source.pmAlias.replace(US_ALIAS, '')) : undefined;
  if (account) return usBankAccount(account);
  const [reference, prefix, noun] =
    'token' in source ? [source.token, 'tok_', 'token'] : [source.pmAlias, 'pm_card_', 'PaymentMethod'];
  const card = reference.startsWith(prefix) ? testCard(reference.slice(prefix.length)) : undefined;
  if (!card) throw resourceMissing(noun, reference, 'token' in source ? 'card[token]' : 'payment_method');
  return { details: cardDetails(card, 12, yearOf(world) + 4), behaviour: card.behaviour };
}

function ownCard(
  world: World,
  given: { number: string; expMonth: number; expYear: number },
): { details: Details; behaviour: Behaviour } {
  const card = testCard(given.number);
  if (!card) {
    throw new StripeError({
      status: 402,
      type: 'card_error',
      code: 'incorrect_number',
      param: 'card[number]',
      message:
        'Your card number is incorrect. The local Stripe takes the documented test cards, such as 4242 4242 4242 4242.',
    });
  }
  const expired = Date.UTC(given.expYear, given.expMonth) / 1000 <= world.now();
  if (given.expMonth < 1 || given.expMonth > 12 || expired) {
    throw new StripeError({
      status: 402,
      type: 'card_error',
      code: expired ? 'invalid_expiry_year' : 'invalid_expiry_month',
      param: expired ? 'card[exp_year]' : 'card[exp_month]',
      message: `Your card's expiration ${expired ? 'year' : 'month'} is invalid.`,
    });
  }
  return { details: cardDetails(card, given.expMonth, given.expYear), behaviour: card.behaviour };
}

function cardDetails(card: TestCard, expMonth: number, expYear: number): Details {
  return {
    type: 'card',
    card: {
      brand: card.brand,
      checks: { address_line1_check: null, address_postal_code_check: null, cvc_check: 'pass' },
      country: 'US',
      display_brand: card.brand,
      exp_month: expMonth,
      exp_year: expYear,
      fingerprint: fingerprint(card.number),
      funding: card.funding,
      generated_from: null,
      last4: card.number.slice(-4),
      networks: { available: [card.brand], preferred: null },
      regulated_status: 'unregulated',
      three_d_secure_usage: { supported: true },
      wallet: null,
    },
  };
}

function yearOf(world: World): number {
  return new Date(world.now() * 1000).getUTCFullYear();
}
