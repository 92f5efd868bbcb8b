import { eventListInput, eventListResult } from '../../shared/events.ts';
import { listEvents } from '../webhooks/list-events.ts';
import { procedure } from './init.ts';
import { router } from './procedure.ts';

/** What happened to an account's purchases, for programs to follow. */
export const eventsRouter = router({
  list: procedure
    .meta({
      scope: 'read:billing',
      bucket: 'global',
      openapi: {
        method: 'GET',
        path: '/v1/billing/events',
        operationId: 'listBillingEvents',
        tags: ['Webhooks'],
        summary: 'Read the event feed',
        description:
          'The events of the account after a sequence number, oldest first: the same ones that webhooks carry. ' +
          'Numbers have no gaps and appear in order, so a consumer that was away reads on from the last number it ' +
          'has handled and has missed nothing.',
        successDescription: 'A part of the feed.',
      },
    })
    .input(eventListInput)
    .output(eventListResult)
    .query(({ ctx, input }) => listEvents(ctx.deps.db, ctx.caller.accountId, input)),
});
