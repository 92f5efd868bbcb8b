import { auditLogRouter } from './audit-log.ts';
import { billingRouter } from './billing.ts';
import { router } from './init.ts';

/** Everything that can be called, over tRPC and REST alike. */
export const appRouter = router({ billing: billingRouter, auditLog: auditLogRouter });
export type AppRouter = typeof appRouter;
