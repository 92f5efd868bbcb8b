import { auditLogRouter } from './audit-log.ts';
import { billingRouter } from './billing.ts';
import { eventsRouter } from './events.ts';
import { router } from './procedure.ts';
import { webhooksRouter } from './webhooks.ts';

/** Everything that can be called, over tRPC and REST alike. */
export const appRouter = router({
  billing: billingRouter,
  auditLog: auditLogRouter,
  events: eventsRouter,
  webhooks: webhooksRouter,
});
export type AppRouter = typeof appRouter;
