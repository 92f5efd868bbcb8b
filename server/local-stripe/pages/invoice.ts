import type { FastifyInstance, FastifyReply } from 'fastify';
import type Stripe from 'stripe';
import { collectInvoice } from '../billing/collect.ts';
import { idOf } from '../billing/customers.ts';
import { paymentIntentOf } from '../billing/invoice-payments.ts';
import { StripeError } from '../errors.ts';
import { money } from '../money.ts';
import { completeAuthentication } from '../payments.ts';
import type { World } from '../world.ts';
import { bankPage } from './bank.ts';
import { field, pageDoor } from './door.ts';
import {
  invoiceLinesAsText,
  invoicePage,
  isPayable,
  NO_PAYMENT_YET,
  type PaymentTry,
} from './invoice-view.ts';
import { problemPage } from './layout.ts';
import { makeMethod } from './make-method.ts';
import { checkMethod, type MethodType, offered, typedMethod } from './payment-form.ts';
import { textPdf } from './pdf.ts';
import { filledWith } from './test-methods.ts';

type Visit = { Params: { invoice: string }; Querystring: Record<string, unknown> };

/** Fastify plugin: the hosted invoice page with a way to pay an open one, and the invoice as PDF. */
export async function invoicePages(app: FastifyInstance, { world }: { world: World }): Promise<void> {
  pageDoor(app);

  app.get<Visit>('/i/:invoice', (request, reply) =>
    show(world, reply, request.params.invoice, (invoice) => {
      const use = request.query['use'];
      const typed = filledWith(typeof use === 'string' ? use : '');
      const message = request.query['done'] === 'refused' ? NOT_CONFIRMED : null;
      const toConfirm = methodToConfirm(world, invoice);
      return reply.send(
        invoicePage(invoice, allowedFor(world, invoice), { ...NO_PAYMENT_YET, typed, message, toConfirm }),
      );
    }),
  );

  app.post<Visit>('/i/:invoice', (request, reply) =>
    show(world, reply, request.params.invoice, (invoice) => {
      const { invoice: id } = request.params;
      // A second click finds the invoice paid: there is nothing left to do.
      if (!isPayable(invoice)) return reply.redirect(`/i/${id}`, 303);
      const typed = typedMethod(request.body);
      const errors = checkMethod(typed, world.now());
      const refused = (message: string, status: number): FastifyReply =>
        reply.code(status).send(
          invoicePage(world.get('invoice', id), allowedFor(world, invoice), {
            typed,
            errors,
            message,
            toConfirm: methodToConfirm(world, invoice),
          } satisfies PaymentTry),
        );
      if (Object.keys(errors).length > 0) return refused('Please look at the marked fields.', 422);
      try {
        const paid = world.atomically(() =>
          collectInvoice(world, id, {
            paymentMethod: makeMethod(world, typed, { email: invoice.customer_email ?? null }).id,
            offSession: false,
            automatic: false,
          }),
        );
        return answer(world, reply, paid, refused);
      } catch (error) {
        // What the typed card made impossible belongs beside the form; everything else has a page of its own.
        if (error instanceof StripeError) return refused(error.message, error.fields.status);
        throw error;
      }
    }),
  );

  // The payment waits for its customer alone: with the same payment method, and the customer present this time.
  app.post<Visit>('/i/:invoice/confirm', (request, reply) =>
    show(world, reply, request.params.invoice, (invoice) => {
      const { invoice: id } = request.params;
      const method = methodToConfirm(world, invoice);
      if (!isPayable(invoice) || method === null) return reply.redirect(`/i/${id}`, 303);
      if (paymentIntentOf(world, id)?.status === 'requires_action')
        return reply.redirect(`/i/${id}/authenticate`, 303);
      const paid = world.atomically(() =>
        collectInvoice(world, id, { paymentMethod: method.id, offSession: false, automatic: false }),
      );
      return answer(world, reply, paid, () => reply.redirect(`/i/${id}?done=refused`, 303));
    }),
  );

  app.get<Visit>('/i/:invoice/authenticate', (request, reply) =>
    show(world, reply, request.params.invoice, (invoice) => {
      const intent = paymentIntentOf(world, request.params.invoice);
      if (intent?.status !== 'requires_action') return reply.redirect(`/i/${request.params.invoice}`, 303);
      return reply.send(bankPage(money(invoice.amount_remaining, invoice.currency)));
    }),
  );

  app.post<Visit>('/i/:invoice/authenticate', (request, reply) => {
    const { invoice: id } = request.params;
    const intent = paymentIntentOf(world, id);
    if (intent?.status !== 'requires_action') return reply.redirect(`/i/${id}`, 303);
    const outcome = field(request.body, 'outcome') === 'succeed' ? 'succeed' : 'fail';
    const { status } = world.atomically(() => completeAuthentication(world, intent.id, outcome));
    return reply.redirect(status === 'succeeded' ? `/i/${id}` : `/i/${id}?done=refused`, 303);
  });

  app.get<Visit>('/i/:invoice/pdf', (request, reply) =>
    show(world, reply, request.params.invoice, (invoice) =>
      reply
        .type('application/pdf')
        .header(
          'content-disposition',
          `attachment; filename="${invoice.number ?? invoice.id ?? 'invoice'}.pdf"`,
        )
        .send(textPdf(invoiceLinesAsText(invoice))),
    ),
  );
}

function show(
  world: World,
  reply: FastifyReply,
  id: string,
  found: (invoice: Stripe.Invoice) => FastifyReply,
): FastifyReply {
  const invoice = world.find('invoice', id);
  if (invoice && invoice.status !== 'draft') return found(invoice);
  return reply
    .code(404)
    .send(problemPage('No such invoice', 'The link is incomplete, or the invoice is still a draft.'));
}

function answer(
  world: World,
  reply: FastifyReply,
  invoice: Stripe.Invoice,
  refused: (message: string, status: number) => FastifyReply,
): FastifyReply {
  const id = invoice.id ?? '';
  const intent = paymentIntentOf(world, id);
  if (invoice.status === 'paid' || intent?.status === 'processing') return reply.redirect(`/i/${id}`, 303);
  if (intent?.status === 'requires_action') return reply.redirect(`/i/${id}/authenticate`, 303);
  return refused(
    `${intent?.last_payment_error?.message ?? 'Your card was declined.'} You can try again.`,
    402,
  );
}

const NOT_CONFIRMED =
  'Your bank did not confirm the payment, so nothing was charged. Confirm it again, or pay with another card.';

/** The payment method with which this invoice waits for its customer to confirm; null where it does not wait. */
function methodToConfirm(world: World, invoice: Stripe.Invoice): Stripe.PaymentMethod | null {
  const intent = paymentIntentOf(world, invoice.id ?? '');
  const code = intent?.last_payment_error?.code;
  const id =
    intent?.status === 'requires_action'
      ? idOf(intent.payment_method)
      : code === 'authentication_required' || code === 'payment_intent_authentication_failure'
        ? (intent?.last_payment_error?.payment_method?.id ?? null)
        : null;
  return id === null ? null : (world.find('payment_method', id) ?? null);
}

const allowedFor = (world: World, invoice: Stripe.Invoice): readonly MethodType[] =>
  offered(paymentIntentOf(world, invoice.id ?? '')?.payment_method_types ?? ['card'], invoice.currency);
