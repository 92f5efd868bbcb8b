import { auditListInput, auditListResult } from '../../shared/audit.ts';
import { listAudit } from '../audit/list.ts';
import { procedure } from './init.ts';
import { router } from './procedure.ts';

/** The history of an account. */
export const auditLogRouter = router({
  list: procedure
    .meta({
      scope: 'read:audit',
      bucket: 'global',
      openapi: {
        method: 'GET',
        path: '/v1/account/audit-log',
        operationId: 'listAuditLog',
        tags: ['Audit log'],
        summary: 'List the audit log',
        description:
          'What happened to the account, newest first. `subscription.tier_changed`, with `payload.from` and ' +
          '`payload.to`, is written whenever the tier changes, the first start and the end included.',
        successDescription: 'One page of the log.',
      },
    })
    .input(auditListInput)
    .output(auditListResult)
    .query(({ ctx, input }) => listAudit(ctx.deps.db, ctx.caller.accountId, input)),
});
