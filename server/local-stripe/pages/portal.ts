import type { FastifyInstance, FastifyReply } from 'fastify';
import { StripeError } from '../errors.ts';
import { money } from '../money.ts';
import {
  portalCancel,
  portalChangePlan,
  portalFinishAuthentication,
  portalKeep,
  portalSetDefaultPaymentMethod,
  previewPlanChange,
} from '../portal/actions.ts';
import { portalSetEmail } from '../portal/address.ts';
import type { PortalResult } from '../portal/results.ts';
import { portalFinishSetup, portalSaveMethod, portalSetup } from '../portal/save-method.ts';
import { redeemPortalLink } from '../portal/sessions.ts';
import { portalView } from '../portal/view.ts';
import type { World } from '../world.ts';
import { bankPage } from './bank.ts';
import { field, pageDoor } from './door.ts';
import { makeMethod } from './make-method.ts';
import { checkMethod, NOTHING_TYPED, typedMethod } from './payment-form.ts';
import { cancelPage, confirmPlanPage, linkGonePage, methodPage, plansPage } from './portal-steps.ts';
import { isDone, overviewPage } from './portal-view.ts';
import { filledWith } from './test-methods.ts';

type Visit = { Params: { visit: string }; Querystring: Record<string, unknown> };
type SetupVisit = { Params: { visit: string; setup: string } };
type InvoiceVisit = { Params: { visit: string; invoice: string } };

/** Fastify plugin: the customer portal. A link opens once; the visit it starts has an address of its own. */
export async function portalPages(app: FastifyInstance, { world }: { world: World }): Promise<void> {
  pageDoor(app, (error) =>
    error.fields.code === 'billing_portal_link_expired' ? linkGonePage(error.message) : null,
  );
  const text = (value: unknown): string => (typeof value === 'string' ? value : '');

  // Only a person's GET uses the link up: a HEAD, as link checkers send it, has no route.
  app.get<{ Params: { secret: string } }>(
    '/p/session/:secret',
    { exposeHeadRoute: false },
    (request, reply) => {
      const { visit } = world.atomically(() => redeemPortalLink(world, request.params.secret));
      return reply.redirect(`/p/visit/${visit}`, 303);
    },
  );

  app.get<Visit>('/p/visit/:visit', (request, reply) => {
    const { visit } = request.params;
    const done = text(request.query['done']);
    return reply.send(overviewPage(portalView(world, visit), visit, isDone(done) ? done : null, world.now()));
  });

  app.get<Visit>('/p/visit/:visit/plans', (request, reply) => {
    const { visit } = request.params;
    return reply.send(plansPage(portalView(world, visit), visit));
  });

  app.get<Visit>('/p/visit/:visit/plan', (request, reply) => {
    const { visit } = request.params;
    const price = text(request.query['price']);
    return reply.send(
      confirmPlanPage(portalView(world, visit), visit, price, previewPlanChange(world, visit, price), null),
    );
  });

  app.post<Visit>('/p/visit/:visit/plan', (request, reply) => {
    const { visit } = request.params;
    const price = field(request.body, 'price');
    try {
      // Choosing the present plan again is how a booked change is undone.
      const stays = previewPlanChange(world, visit, price).when === 'unchanged';
      const result = world.atomically(() => portalChangePlan(world, visit, price));
      return follow(
        reply,
        visit,
        result,
        result.outcome === 'scheduled' ? 'scheduled' : stays ? 'stays' : 'changed',
      );
    } catch (error) {
      if (!(error instanceof StripeError) || error.fields.status !== 402) throw error;
      const preview = previewPlanChange(world, visit, price);
      const message = `${error.message} Nothing was changed. Add another payment method and try again.`;
      return reply.code(402).send(confirmPlanPage(portalView(world, visit), visit, price, preview, message));
    }
  });

  app.get<Visit>('/p/visit/:visit/cancel', (request, reply) => {
    const { visit } = request.params;
    return reply.send(cancelPage(portalView(world, visit), visit));
  });

  app.post<Visit>('/p/visit/:visit/cancel', (request, reply) => {
    const { visit } = request.params;
    return follow(
      reply,
      visit,
      world.atomically(() => portalCancel(world, visit)),
      'canceled',
    );
  });

  app.post<Visit>('/p/visit/:visit/keep', (request, reply) => {
    const { visit } = request.params;
    return follow(
      reply,
      visit,
      world.atomically(() => portalKeep(world, visit)),
      'kept',
    );
  });

  app.post<Visit>('/p/visit/:visit/email', (request, reply) => {
    const { visit } = request.params;
    const email = field(request.body, 'email').trim();
    const isTaken = world.atomically(() => portalSetEmail(world, visit, email));
    return reply.redirect(`/p/visit/${visit}?done=${isTaken ? 'email' : 'no_email'}`, 303);
  });

  app.get<Visit>('/p/visit/:visit/payment-method', (request, reply) => {
    const { visit } = request.params;
    const typed = filledWith(text(request.query['use']));
    return reply.send(methodPage(portalView(world, visit), visit, { typed, errors: {}, message: null }));
  });

  app.post<Visit>('/p/visit/:visit/payment-method', (request, reply) => {
    const { visit } = request.params;
    const known = field(request.body, 'payment_method');
    const typed = known === '' ? typedMethod(request.body) : NOTHING_TYPED;
    const view = portalView(world, visit);
    const errors = known === '' ? checkMethod(typed, world.now()) : {};
    const refused = (message: string, status: number): FastifyReply =>
      reply.code(status).send(methodPage(view, visit, { typed, errors, message }));
    if (Object.keys(errors).length > 0) return refused('Please look at the marked fields.', 422);
    try {
      if (known !== '')
        return follow(
          reply,
          visit,
          world.atomically(() => portalSetDefaultPaymentMethod(world, visit, known)),
          'method',
        );
      const saved = world.atomically(() =>
        portalSaveMethod(world, visit, makeMethod(world, typed, { email: view.customer.email })),
      );
      return reply.redirect(
        saved.outcome === 'done'
          ? `/p/visit/${visit}?done=method`
          : `/p/visit/${visit}/payment-method/${saved.setup}`,
        303,
      );
    } catch (error) {
      // What the typed card made impossible belongs beside the form; everything else has a page of its own.
      if (error instanceof StripeError && error.fields.code !== 'billing_portal_link_expired')
        return refused(error.message, error.fields.status);
      throw error;
    }
  });

  app.get<SetupVisit>('/p/visit/:visit/payment-method/:setup', (request, reply) => {
    const { visit, setup } = request.params;
    if (portalSetup(world, visit, setup).status !== 'requires_action')
      return reply.redirect(`/p/visit/${visit}`, 303);
    return reply.send(bankPage('keeping this payment method for later payments'));
  });

  app.post<SetupVisit>('/p/visit/:visit/payment-method/:setup', (request, reply) => {
    const { visit, setup } = request.params;
    const answer = field(request.body, 'outcome') === 'succeed' ? 'succeed' : 'fail';
    try {
      world.atomically(() => portalFinishSetup(world, visit, setup, answer));
      return reply.redirect(`/p/visit/${visit}?done=method`, 303);
    } catch (error) {
      if (!(error instanceof StripeError) || error.fields.status !== 402) throw error;
      const message = 'Your bank did not confirm it, so it was not kept. Try again, or add another one.';
      const attempt = { typed: NOTHING_TYPED, errors: {}, message };
      return reply.code(402).send(methodPage(portalView(world, visit), visit, attempt));
    }
  });

  app.get<InvoiceVisit>('/p/visit/:visit/authenticate/:invoice', (request, reply) => {
    const { visit, invoice: id } = request.params;
    const invoice = portalView(world, visit).invoices.find((one) => one.id === id);
    if (invoice?.status !== 'open') return reply.redirect(`/p/visit/${visit}`, 303);
    return reply.send(bankPage(money(invoice.amount_remaining, invoice.currency)));
  });

  app.post<InvoiceVisit>('/p/visit/:visit/authenticate/:invoice', (request, reply) => {
    const { visit, invoice } = request.params;
    const answer = field(request.body, 'outcome') === 'succeed' ? 'succeed' : 'fail';
    const result = world.atomically(() => portalFinishAuthentication(world, visit, invoice, answer));
    return reply.redirect(`/p/visit/${visit}?done=${result.outcome === 'done' ? 'changed' : 'refused'}`, 303);
  });
}

function follow(
  reply: FastifyReply,
  visit: string,
  result: PortalResult,
  done: 'changed' | 'scheduled' | 'canceled' | 'kept' | 'stays' | 'method',
): FastifyReply {
  switch (result.outcome) {
    case 'done':
    case 'scheduled':
      return reply.redirect(`/p/visit/${visit}?done=${done}`, 303);
    case 'requires_action':
      return reply.redirect(`/p/visit/${visit}/authenticate/${result.invoice ?? ''}`, 303);
    case 'declined':
      return reply.redirect(`/p/visit/${visit}?done=refused`, 303);
  }
}
