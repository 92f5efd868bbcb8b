import type { FastifyInstance } from 'fastify';
import { baseUrl } from '../billing/customers.ts';
import type { Deliveries } from '../deliveries.ts';
import { failNextMails } from '../mails.ts';
import type { ClockMover } from '../move-clock.ts';
import { declineNextPayments } from '../ordered-declines.ts';
import type { World } from '../world.ts';
import { eventsPanel } from './console-events.ts';
import { clearFaults, faultsPanel, orderFault } from './console-faults.ts';
import { productPanels } from './console-product.ts';
import { customersPanel, mailsPanel } from './console-stripe.ts';
import { advanceClock, clockPanel, isStep, tryPanel } from './console-tools.ts';
import { webhooksPanel } from './console-webhooks.ts';
import { field, pageDoor } from './door.ts';
import { html } from './html.ts';
import { page, problemPage } from './layout.ts';
import { sendIfChanged } from './mailbox.ts';
import { type Product, type ProductView, readProduct } from './product.ts';

export interface ConsoleOptions {
  readonly world: World;
  /** The product whose accounts are shown beside Stripe's side; null when the local Stripe runs alone. */
  readonly product: Product | null;
  readonly deliveries: Pick<Deliveries, 'pump' | 'resend'>;
  readonly mover: ClockMover;
  /** Real time in milliseconds, for the chart. */
  readonly clock: () => number;
}

/** Fastify plugin: the developer's console, what happened on both sides, live, and the levers to make it happen. */
export async function consolePages(app: FastifyInstance, options: ConsoleOptions): Promise<void> {
  const { world, product, deliveries, mover } = options;
  pageDoor(app);

  app.get('/', (_request, reply) => reply.redirect('/console', 302));

  app.get('/console', async (_request, reply) =>
    sendIfChanged(reply, consolePage(options, await readProduct(product))),
  );

  app.post('/console/clock', (request, reply) => {
    const by = field(request.body, 'by');
    if (by === 'stop') mover.stop();
    else if (isStep(by)) advanceClock(options, by, field(request.body, 'clock'));
    else return reply.code(400).send(problemPage('That did not work', 'Choose one of the steps.'));
    return reply.redirect('/console', 303);
  });

  app.post('/console/resend', (request, reply) => {
    deliveries.resend(field(request.body, 'delivery'));
    return reply.redirect('/console', 303);
  });

  app.post<{ Params: { side: string } }>('/console/faults/:side', (request, reply) => {
    const { side } = request.params;
    if (side === 'clear') {
      clearFaults(world);
      failNextMails(world, 'rate_limited', 0);
    } else if (!orderFault(world, side, field(request.body, 'kind'), Number(field(request.body, 'count'))))
      return reply
        .code(400)
        .send(problemPage('That did not work', 'Choose a fault and how many times, 1 to 1000.'));
    return reply.redirect('/console', 303);
  });

  app.post('/console/fail-next-payment', (request, reply) => {
    const customer = world.get('customer', field(request.body, 'customer'));
    declineNextPayments(world, customer.id, 'generic_decline', 1);
    return reply.redirect('/console', 303);
  });
}

function consolePage({ world, product, clock, mover }: ConsoleOptions, view: ProductView): string {
  return page({
    title: 'Console',
    part: 'console',
    scripts: ['live.js'],
    body: html`
<div class="bar">
<h1>Console</h1>
<p class="small muted">What happened, on both sides. All times are UTC.</p>
<p class="live small end" data-live-state="idle">Reload to see what is new</p>
<button type="button" class="plain" data-pause aria-pressed="false">Pause</button>
<p class="hidden" role="status" data-said></p>
</div>
<div class="panels">
<div class="panel-column">${productPanels(view)}${tryPanel(baseUrl(world), product?.baseUrl ?? null)}</div>
<div class="panel-column">${customersPanel(world)}${mailsPanel(world)}</div>
<div class="panel-column">${clockPanel(world, mover, product !== null)}${eventsPanel(world, clock())}${webhooksPanel(world, view)}${faultsPanel(world)}</div>
</div>`,
  });
}
