import type { FastifyInstance } from 'fastify';
import { money } from '../money.ts';
import { completeAuthentication } from '../payments.ts';
import type { World } from '../world.ts';
import { field, pageDoor } from './door.ts';
import { html } from './html.ts';
import { page, problemPage } from './layout.ts';

/**
 * The step where the bank asks whether it is really you (3D Secure), about an amount or something else. The form
 * posts to the page's own address.
 */
export function bankPage(about: string): string {
  return page({
    title: 'Confirm with your bank',
    part: 'checkout',
    scripts: ['form.js'],
    body: html`<section class="card narrow">
<h1>Your bank asks: is it you?</h1>
<p>A real bank would now open its app or send a code (3D Secure). Here you decide what it hears about
<b>${about}</b>.</p>
<form method="post" class="row" data-once>
<button class="main" name="outcome" value="succeed" data-busy="Confirming…">Complete</button>
<button class="danger" name="outcome" value="fail" data-busy="Refusing…">Fail</button>
</form>
</section>`,
  });
}

/** Fastify plugin: the page that a payment intent's `next_action` leads to when it was confirmed by API. */
export async function bankPages(app: FastifyInstance, { world }: { world: World }): Promise<void> {
  pageDoor(app);

  app.get<{ Params: { intent: string } }>('/_sandbox/authenticate/:intent', (request, reply) => {
    const intent = world.get('payment_intent', request.params.intent);
    if (intent.status !== 'requires_action') return reply.send(settledPage(intent.status === 'succeeded'));
    return reply.send(bankPage(money(intent.amount, intent.currency)));
  });

  app.post<{ Params: { intent: string } }>('/_sandbox/authenticate/:intent', (request, reply) => {
    const { intent: id } = request.params;
    const outcome = field(request.body, 'outcome') === 'succeed' ? 'succeed' : 'fail';
    const before = world.get('payment_intent', id);
    const returnUrl = before.next_action?.redirect_to_url?.return_url ?? null;
    if (before.status !== 'requires_action') return reply.send(settledPage(before.status === 'succeeded'));
    const intent = world.atomically(() => completeAuthentication(world, id, outcome));
    if (returnUrl === null || !URL.canParse(returnUrl))
      return reply.send(settledPage(intent.status === 'succeeded'));
    const target = new URL(returnUrl);
    target.searchParams.set('payment_intent', id);
    target.searchParams.set('payment_intent_client_secret', intent.client_secret ?? '');
    target.searchParams.set('redirect_status', intent.status === 'succeeded' ? 'succeeded' : 'failed');
    return reply.send(leavingPage(target.href));
  });
}

/**
 * Leads on to the application. Not a redirect: browsers hold every redirect after a form against the page's
 * policy, also those that the application makes on its own.
 */
export function leavingPage(target: string): string {
  return page({
    title: 'Done',
    part: 'checkout',
    leadsTo: target,
    body: html`<section class="card narrow"><h1>Done</h1><p>Leading you back to the application.</p>
<p><a class="button main" href="${target}" rel="noreferrer">Continue</a></p></section>`,
  });
}

const settledPage = (succeeded: boolean): string =>
  problemPage(
    succeeded ? 'Confirmed' : 'Nothing to confirm',
    succeeded ? 'The bank let the payment through.' : 'This payment does not wait for the bank.',
  );
