import { randomBytes } from 'node:crypto';
import type Stripe from 'stripe';
import { z } from 'zod';
import { listRoute } from '../list.ts';
import {
  arrayOf,
  bool,
  emptyable,
  mergeMetadata,
  metadata,
  params,
  refuse,
  text,
  webAddress,
} from '../params.ts';
import { type Route, route } from '../route.ts';

const eventType = z.string().transform((value, context) => {
  if (value === '*' || /^[a-z0-9_]+(\.[a-z0-9_]+)+$/.test(value)) return value;
  return refuse(context, `Invalid enabled_events: '${value}' is not the name of an event`);
});

const apiVersion = z.string().transform((value, context) => {
  if (/^\d{4}-\d{2}-\d{2}(\.[a-z]+)?$/.test(value)) return value;
  return refuse(context, `Invalid Stripe API version: ${value}`);
});

const enabledEvents = arrayOf(eventType);

/** Webhook endpoints. The signing secret is shown once, in the answer to their creation. */
export const webhookEndpointRoutes: Route[] = [
  route(
    'POST',
    '/v1/webhook_endpoints',
    params({
      api_version: apiVersion.optional(),
      connect: bool.optional(),
      description: emptyable(text).optional(),
      enabled_events: enabledEvents,
      metadata: metadata.optional(),
      url: webAddress,
    }),
    (world, given) => {
      const endpoint = world.add('webhook_endpoint', {
        id: world.newId('webhook_endpoint'),
        object: 'webhook_endpoint',
        api_version: given.api_version ?? null,
        application: null,
        created: world.now(),
        description: given.description ?? null,
        enabled_events: given.enabled_events,
        livemode: false,
        metadata: mergeMetadata({}, given.metadata),
        status: 'enabled',
        url: given.url,
      });
      const secret = `whsec_${randomBytes(24).toString('base64url').replaceAll(/[-_]/g, '0')}`;
      world.hidden.put('webhook_secret', endpoint.id, { secret });
      return { ...endpoint, secret };
    },
  ),
  route('GET', '/v1/webhook_endpoints/:id', params({}), (world, _given, id) =>
    world.get('webhook_endpoint', id),
  ),
  route(
    'POST',
    '/v1/webhook_endpoints/:id',
    params({
      description: emptyable(text).optional(),
      disabled: bool.optional(),
      enabled_events: enabledEvents.optional(),
      metadata: metadata.optional(),
      url: webAddress.optional(),
    }),
    (world, given, id) => {
      const before = world.get('webhook_endpoint', id);
      return world.change('webhook_endpoint', id, {
        description: given.description === undefined ? before.description : given.description,
        enabled_events: given.enabled_events ?? before.enabled_events,
        metadata: mergeMetadata(before.metadata, given.metadata),
        status: given.disabled === undefined ? before.status : given.disabled ? 'disabled' : 'enabled',
        url: given.url ?? before.url,
      });
    },
  ),
  route(
    'DELETE',
    '/v1/webhook_endpoints/:id',
    params({}),
    (world, _given, id): Stripe.DeletedWebhookEndpoint => {
      world.get('webhook_endpoint', id);
      world.store.remove('webhook_endpoint', id);
      world.hidden.remove('webhook_secret', id);
      return { id, object: 'webhook_endpoint', deleted: true };
    },
  ),
  listRoute('webhook_endpoint', '/v1/webhook_endpoints', {}, () => true),
];
