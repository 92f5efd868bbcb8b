import { randomBytes } from 'node:crypto';
import type Stripe from 'stripe';
import { baseUrl, livingCustomer } from '../billing/customers.ts';
import { invalidRequest, StripeError } from '../errors.ts';
import type { World } from '../world.ts';
import { defaultConfiguration } from './configurations.ts';

const LINK_SECONDS = 5 * 60;
const VISIT_SECONDS = 60 * 60;

interface Link {
  readonly session: string;
  readonly expiresAt: number;
}

export interface NewPortalSession {
  readonly customer: string;
  readonly configuration: string | null;
  readonly returnUrl: string | null;
  readonly locale: Stripe.BillingPortal.Session.Locale | null;
  readonly flow: Stripe.BillingPortal.Session.Flow | null;
}

/** Mints a portal link for a customer: it opens once, within five minutes. */
export function createPortalSession(world: World, given: NewPortalSession): Stripe.BillingPortal.Session {
  livingCustomer(world, given.customer);
  const configuration =
    given.configuration === null
      ? defaultConfiguration(world)
      : world.get('billing_portal.configuration', given.configuration, 'configuration');
  if (!configuration.active)
    throw invalidRequest('The configuration is not active.', { param: 'configuration' });
  const secret = `test_${randomBytes(24).toString('base64url')}`;
  const session: Stripe.BillingPortal.Session = {
    id: world.newId('billing_portal.session'),
    object: 'billing_portal.session',
    after_expiration: null,
    configuration: configuration.id,
    created: world.now(),
    customer: given.customer,
    customer_account: null,
    flow: given.flow,
    livemode: false,
    locale: given.locale,
    on_behalf_of: null,
    return_url: given.returnUrl ?? configuration.default_return_url,
    url: `${baseUrl(world)}/p/session/${secret}`,
  };
  const link: Link = { session: session.id, expiresAt: world.now() + LINK_SECONDS };
  world.hidden.put('portal_link', secret, link);
  return world.add('billing_portal.session', session, 'billing_portal.session.created');
}

/** Opens a link: answers the id of a visit, good for an hour. A used, stale or unknown link is refused. */
export function redeemPortalLink(
  world: World,
  secret: string,
): { visit: string; session: Stripe.BillingPortal.Session } {
  const link = world.hidden.get<Link>('portal_link', secret);
  if (!link || link.expiresAt <= world.now())
    throw expired('This link to the customer portal has expired or was already used.');
  world.hidden.remove('portal_link', secret);
  const visit = `visit_${randomBytes(24).toString('base64url')}`;
  const opened: Link = { session: link.session, expiresAt: world.now() + VISIT_SECONDS };
  world.hidden.put('portal_visit', visit, opened);
  return { visit, session: world.get('billing_portal.session', link.session) };
}

/** The session behind a visit, or a refusal once its hour is over. */
export function visitedSession(world: World, visit: string): Stripe.BillingPortal.Session {
  const opened = world.hidden.get<Link>('portal_visit', visit);
  if (!opened || opened.expiresAt <= world.now())
    throw expired('Your visit to the customer portal has ended.');
  return world.get('billing_portal.session', opened.session);
}

function expired(message: string): StripeError {
  return new StripeError({
    status: 401,
    type: 'invalid_request_error',
    code: 'billing_portal_link_expired',
    message,
  });
}
