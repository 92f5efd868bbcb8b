import type Stripe from 'stripe';
import type { Deliveries } from '../deliveries.ts';
import { invalidRequest } from '../errors.ts';
import { listRoute } from '../list.ts';
import { arrayOf, bool, params, text } from '../params.ts';
import { type Route, route } from '../route.ts';
import type { CliListeners } from '../stripe-cli.ts';

/** Events: read, listed newest first, and sent again to an endpoint or to `stripe listen`. */
export function eventRoutes(deliveries: Deliveries, listeners: CliListeners): Route[] {
  const shown = (event: Stripe.Event): Stripe.Event => ({
    ...event,
    pending_webhooks: deliveries.pendingFor(event.id),
  });
  const list = listRoute(
    'event',
    '/v1/events',
    { delivery_success: bool.optional(), type: text.optional(), types: arrayOf(text).optional() },
    (event, { delivery_success: arrived, type, types }) =>
      (type === undefined || matches(event.type, type)) &&
      (types === undefined || types.some((wanted) => matches(event.type, wanted))) &&
      (arrived === undefined || arrived === (deliveries.pendingFor(event.id) === 0)),
    ({ type }) => (typeof type === 'string' && !type.endsWith('*') ? type : undefined),
  );
  return [
    route('GET', '/v1/events/:id', params({}), (world, _given, id) => shown(world.get('event', id))),
    {
      ...list,
      run(world, call) {
        const { params: given } = call;
        if (typeof given === 'object' && given !== null && 'types' in given && Array.isArray(given.types)) {
          if ('type' in given && given.type !== undefined)
            throw invalidRequest('You may only specify one of these parameters: type, types.', {
              param: 'types',
            });
          if (given.types.length > 20)
            throw invalidRequest('You may list up to 20 types.', { param: 'types' });
        }
        // A list of events, which is what listRoute('event') answers.
        const page = list.run(world, call) as Stripe.ApiList<Stripe.Event>;
        return { ...page, data: page.data.map(shown) };
      },
    },
    route(
      'POST',
      '/v1/events/:id/retry',
      params({ account: text.optional(), for_stripecli: bool.optional(), webhook_endpoint: text.optional() }),
      (world, given, id) => {
        const event = world.get('event', id);
        if (given.webhook_endpoint !== undefined) {
          const endpoint = world.get('webhook_endpoint', given.webhook_endpoint, 'webhook_endpoint');
          deliveries.sendAgain(event, endpoint.id);
        } else {
          listeners.send(event);
        }
        return shown(event);
      },
    ),
  ];
}

/** `invoice.*` stands for all of a kind. */
function matches(type: string, wanted: string): boolean {
  return wanted.endsWith('.*') ? type.startsWith(wanted.slice(0, -1)) : type === wanted;
}
