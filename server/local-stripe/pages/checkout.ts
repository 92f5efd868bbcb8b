import type { FastifyInstance, FastifyReply } from 'fastify';
import type Stripe from 'stripe';
import { clockOfCustomer, customerIfAlive, idOf } from '../billing/customers.ts';
import { boundary } from '../billing/periods.ts';
import { productName, recurrenceOf } from '../billing/prices.ts';
import { checkoutDetails } from '../checkout/details.ts';
import { type CheckoutResult, finishAuthentication, payCheckoutSession } from '../checkout/pay.ts';
import { StripeError } from '../errors.ts';
import { money } from '../money.ts';
import type { World } from '../world.ts';
import { bankPage, leavingPage } from './bank.ts';
import {
  type Attempt,
  checkoutPage,
  completePage,
  expiredPage,
  FIRST_ATTEMPT,
  type Order,
} from './checkout-view.ts';
import { field, pageDoor } from './door.ts';
import { html } from './html.ts';
import { problemPage } from './layout.ts';
import { makeMethod } from './make-method.ts';
import { checkMethod, type FieldErrors, typedMethod } from './payment-form.ts';
import { filledWith } from './test-methods.ts';

type Visit = { Params: { session: string }; Querystring: Record<string, unknown> };

/** Fastify plugin: the hosted Checkout page, its 3D Secure step, and what it says once a session is over. */
export async function checkoutPages(app: FastifyInstance, { world }: { world: World }): Promise<void> {
  pageDoor(app);

  app.get<Visit>('/c/pay/:session', (request, reply) => {
    const { session } = request.params;
    const use = request.query['use'];
    const typed = filledWith(typeof use === 'string' ? use : '');
    return show(world, reply, session, (order) =>
      isAuthenticating(world, session)
        ? reply.redirect(`/c/pay/${session}/authenticate`, 303)
        : reply.send(checkoutPage(order, { ...FIRST_ATTEMPT, typed })),
    );
  });

  app.post<Visit>('/c/pay/:session', (request, reply) => {
    const { session } = request.params;
    return show(world, reply, session, (order) => {
      const typed = typedMethod(request.body);
      const email = order.knownEmail ?? field(request.body, 'email');
      const errors: FieldErrors = {
        ...(EMAIL.test(email) ? {} : { email: 'Enter an e-mail address like ada@example.com.' }),
        ...checkMethod(typed, world.now()),
      };
      const refused = (message: string, status: number): FastifyReply =>
        reply.code(status).send(checkoutPage(order, { email, typed, errors, message } satisfies Attempt));
      if (Object.keys(errors).length > 0) return refused('Please look at the marked fields.', 422);
      try {
        const result = world.atomically(() =>
          payCheckoutSession(world, session, {
            paymentMethod: makeMethod(world, typed, { email }).id,
            email,
          }),
        );
        return follow(reply, result, refused);
      } catch (error) {
        // What the typed card made impossible belongs beside the form; everything else has a page of its own.
        if (error instanceof StripeError) return refused(error.message, error.fields.status);
        throw error;
      }
    });
  });

  app.get<Visit>('/c/pay/:session/authenticate', (request, reply) => {
    const { session } = request.params;
    return show(world, reply, session, (order) =>
      isAuthenticating(world, session)
        ? reply.send(bankPage(money(order.session.amount_total ?? 0, order.session.currency ?? 'usd')))
        : reply.redirect(`/c/pay/${session}`, 303),
    );
  });

  app.post<Visit>('/c/pay/:session/authenticate', (request, reply) => {
    const { session } = request.params;
    return show(world, reply, session, (order) => {
      if (!isAuthenticating(world, session)) return reply.redirect(`/c/pay/${session}`, 303);
      const answer = field(request.body, 'outcome') === 'succeed' ? 'succeed' : 'fail';
      const result = world.atomically(() => finishAuthentication(world, session, answer));
      return follow(reply, result, (message, status) =>
        reply
          .code(status)
          .send(checkoutPage(order, { ...FIRST_ATTEMPT, email: order.knownEmail ?? '', message })),
      );
    });
  });
}

const EMAIL = /^[^\s<>@,]+@[^\s<>@,]+\.[^\s<>@,]+$|^[^\s<>@,]+@localhost$/;

/** Answers for a session that is over, or lets `open` answer for one that can be paid. */
function show(
  world: World,
  reply: FastifyReply,
  id: string,
  open: (order: Order) => FastifyReply,
): FastifyReply {
  const session = world.find('checkout.session', id);
  if (!session)
    return reply
      .code(404)
      .send(
        problemPage(
          'No such checkout',
          'The link is incomplete, or it belongs to a local Stripe whose data was deleted.',
          html`<p>Go back to the application and start again.</p>`,
        ),
      );
  if (session.status === 'complete') {
    // A form that was already on its way when the first one paid ends where that one ended.
    const target = successUrl(session);
    if (reply.request.method === 'POST' && target !== null) return reply.send(leavingPage(target));
    return reply.send(completePage(session, target));
  }
  if (session.status === 'expired' || session.expires_at <= world.now())
    return reply.code(410).send(expiredPage(session));
  return open(orderOf(world, session));
}

function follow(
  reply: FastifyReply,
  result: CheckoutResult,
  refused: (message: string, status: number) => FastifyReply,
): FastifyReply {
  const { session } = result;
  switch (result.outcome) {
    case 'complete':
    case 'processing': {
      const target = successUrl(session);
      return reply.send(target === null ? completePage(session, null) : leavingPage(target));
    }
    case 'requires_action':
      return reply.redirect(`/c/pay/${session.id}/authenticate`, 303);
    case 'declined':
      return refused(`${result.message ?? 'Your card was declined.'} You can try again.`, 402);
  }
}

/** Where a paid session leads, with every `{CHECKOUT_SESSION_ID}` replaced. */
function successUrl(session: Stripe.Checkout.Session): string | null {
  return session.success_url?.replaceAll('{CHECKOUT_SESSION_ID}', session.id) ?? null;
}

function isAuthenticating(world: World, session: string): boolean {
  const intent = checkoutDetails(world, session).paymentIntent;
  return intent !== null && world.find('payment_intent', intent)?.status === 'requires_action';
}

function orderOf(world: World, session: Stripe.Checkout.Session): Order {
  const { items, subscription } = checkoutDetails(world, session.id);
  const customer = idOf(session.customer);
  const known = customer === null ? null : customerIfAlive(world, customer);
  const now = world.now(clockOfCustomer(world, customer));
  const trialEnd =
    subscription.trialEnd ?? (subscription.trialDays === null ? null : now + subscription.trialDays * 86_400);
  const recurring = items.find(({ price }) => price.recurring)?.price;
  return {
    session,
    lines: items.map(({ price, quantity }) => ({ name: productName(world, price), quantity, price })),
    knownEmail: known?.email ?? session.customer_email,
    trialEnd,
    nextChargeAt: recurring ? (trialEnd ?? boundary(now, recurrenceOf(recurring), 1)) : null,
  };
}
