import { z } from 'zod';
import {
  deliveryInput,
  deliveryListInput,
  deliveryListResult,
  replayInput,
  replayResult,
  webhookDeliverySchema,
} from '../../shared/webhook-deliveries.ts';
import {
  createdEndpointSchema,
  createEndpointInput,
  endpointInput,
  endpointListInput,
  endpointListResult,
  updateEndpointInput,
  webhookEndpointSchema,
} from '../../shared/webhooks.ts';
import { listDeliveries } from '../webhooks/deliveries.ts';
import { createEndpoint, deleteEndpoint, rotateSecret, updateEndpoint } from '../webhooks/endpoints.ts';
import { getEndpoint, listEndpoints } from '../webhooks/list-endpoints.ts';
import { replayDelivery, replayEvents, testEndpoint } from '../webhooks/replay.ts';
import { answerOnce, type Meta, postProcedure, procedure } from './init.ts';
import { router } from './procedure.ts';

const tags = ['Webhooks'];
const READ = { scope: 'read:webhooks', bucket: 'global' } as const satisfies Partial<Meta>;
const WRITE = { scope: 'account_owner', bucket: 'global' } as const satisfies Partial<Meta>;

/** Where an account's events are sent, and what became of them. */
export const webhooksRouter = router({
  create: postProcedure
    .meta({
      ...WRITE,
      status: 201,
      openapi: {
        method: 'POST',
        path: '/v1/webhooks',
        operationId: 'createWebhookEndpoint',
        tags,
        summary: 'Create a webhook endpoint',
        description:
          'Registers an https address that events are sent to. The answer holds the secret that verifies them; ' +
          'it is shown this once. An account can have ten endpoints.',
        successDescription: 'The endpoint, with its secret.',
      },
    })
    .input(createEndpointInput)
    .output(createdEndpointSchema)
    .mutation(answerOnce(createdEndpointSchema, createEndpoint)),

  list: procedure
    .meta({
      ...READ,
      openapi: {
        method: 'GET',
        path: '/v1/webhooks',
        operationId: 'listWebhookEndpoints',
        tags,
        summary: 'List webhook endpoints',
        description: 'The endpoints of the account, newest first, without their secrets.',
        successDescription: 'One page of endpoints.',
      },
    })
    .input(endpointListInput)
    .output(endpointListResult)
    .query(({ ctx, input }) => listEndpoints(ctx.deps, ctx.caller.accountId, input)),

  get: procedure
    .meta({
      ...READ,
      openapi: {
        method: 'GET',
        path: '/v1/webhooks/{id}',
        operationId: 'getWebhookEndpoint',
        tags,
        summary: 'Read a webhook endpoint',
        description: 'One endpoint of the account, without its secret.',
        successDescription: 'The endpoint.',
      },
    })
    .input(endpointInput)
    .output(webhookEndpointSchema)
    .query(({ ctx, input }) => getEndpoint(ctx.deps, ctx.caller.accountId, input)),

  update: procedure
    .meta({
      ...WRITE,
      openapi: {
        method: 'PATCH',
        path: '/v1/webhooks/{id}',
        operationId: 'updateWebhookEndpoint',
        tags,
        summary: 'Change a webhook endpoint',
        description:
          'Changes the given fields. `active: false` pauses: events are kept, and sent once it is `true` again.',
        successDescription: 'The endpoint as it is now.',
      },
    })
    .input(updateEndpointInput)
    .output(webhookEndpointSchema)
    .mutation(({ ctx, input }) => updateEndpoint(ctx.deps, ctx.caller, input)),

  delete: procedure
    .meta({
      ...WRITE,
      status: 204,
      openapi: {
        method: 'DELETE',
        path: '/v1/webhooks/{id}',
        operationId: 'deleteWebhookEndpoint',
        tags,
        summary: 'Delete a webhook endpoint',
        description: 'Deletes an endpoint for good. Deleting it again changes nothing and succeeds.',
        successDescription: 'It is deleted.',
      },
    })
    .input(endpointInput)
    .output(z.null())
    .mutation(async ({ ctx, input }) => {
      await deleteEndpoint(ctx.deps, ctx.caller, input);
      return null;
    }),

  test: postProcedure
    .meta({
      ...WRITE,
      status: 202,
      openapi: {
        method: 'POST',
        path: '/v1/webhooks/{id}/test',
        operationId: 'testWebhookEndpoint',
        tags,
        summary: 'Send a test event',
        description:
          'Sends `test.ping`, signed and tried like any event. Its `data` is empty, and it is not in the feed. ' +
          'A paused endpoint is sent nothing: 400 `webhook_endpoint_paused`.',
        successDescription: 'The delivery that will carry it.',
      },
    })
    .input(endpointInput)
    .output(webhookDeliverySchema)
    .mutation(answerOnce(webhookDeliverySchema, testEndpoint)),

  rotateSecret: postProcedure
    .meta({
      ...WRITE,
      openapi: {
        method: 'POST',
        path: '/v1/webhooks/{id}/rotate-secret',
        operationId: 'rotateWebhookSecret',
        tags,
        summary: 'Rotate the secret',
        description:
          'Gives the endpoint a new secret, shown this once. For 24 hours everything is signed with the secret ' +
          'before as well.',
        successDescription: 'The endpoint, with its new secret.',
      },
    })
    .input(endpointInput)
    .output(createdEndpointSchema)
    .mutation(answerOnce(createdEndpointSchema, rotateSecret)),

  replay: postProcedure
    .meta({
      ...WRITE,
      status: 202,
      openapi: {
        method: 'POST',
        path: '/v1/webhooks/{id}/replay',
        operationId: 'replayWebhookEvents',
        tags,
        summary: 'Replay events from a sequence number',
        description:
          'Sends events after a sequence number once more, in order, with the ids they had: those of the types ' +
          'that the endpoint is for now, 500 with each call; `next_after` says where to go on. What failed or ' +
          'was given up begins anew, and what is on its way already is not sent twice. A paused endpoint gets them ' +
          'once it is active again.',
        successDescription: 'How many deliveries were queued, and where to go on.',
      },
    })
    .input(replayInput)
    .output(replayResult)
    .mutation(answerOnce(replayResult, replayEvents)),

  listDeliveries: procedure
    .meta({
      ...READ,
      openapi: {
        method: 'GET',
        path: '/v1/webhooks/{id}/deliveries',
        operationId: 'listWebhookDeliveries',
        tags,
        summary: 'List deliveries',
        description: 'What was sent to an endpoint and what it answered, newest first.',
        successDescription: 'One page of deliveries.',
      },
    })
    .input(deliveryListInput)
    .output(deliveryListResult)
    .query(({ ctx, input }) => listDeliveries(ctx.deps, ctx.caller.accountId, input)),

  replayDelivery: postProcedure
    .meta({
      ...WRITE,
      status: 202,
      openapi: {
        method: 'POST',
        path: '/v1/webhook-deliveries/{id}/replay',
        operationId: 'replayWebhookDelivery',
        tags,
        summary: 'Replay a delivery',
        description:
          'Sends what the delivery carried once more, with the same event id. One that is `failed` or in the ' +
          'dead-letter queue begins anew, and is in the queue no longer; for one that arrived there is a new ' +
          'delivery. What is on its way already is not sent twice. A paused endpoint gets it once it is active again.',
        successDescription: 'The delivery that will carry it.',
      },
    })
    .input(deliveryInput)
    .output(webhookDeliverySchema)
    .mutation(answerOnce(webhookDeliverySchema, replayDelivery)),
});
