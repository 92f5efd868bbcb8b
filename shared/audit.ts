import { z } from 'zod';
import { nextCursor, pageFields } from './paging.ts';
import { isMoment, wireTimeSchema } from './time.ts';

/** Every action this service writes into the audit log. */
export const AUDIT_ACTIONS = [
  'account.created',
  'account.email_changed',
  'account.email_change_refused',
  'api_key.minted',
  'api_key.revoked',
  'stripe_customer.created',
  'stripe_customer.deleted',
  'checkout_session.started',
  'checkout_session.expired',
  'checkout_session.payment_failed',
  'portal_session.started',
  'subscription.tier_changed',
  'subscription.tier_change_scheduled',
  'subscription.tier_change_unscheduled',
  'subscription.billing_period_changed',
  'subscription.billing_period_change_scheduled',
  'subscription.billing_period_change_unscheduled',
  'subscription.status_changed',
  'subscription.cancel_scheduled',
  'subscription.cancel_unscheduled',
  'subscription.price_unknown',
  'subscription.duplicate_canceled',
  'subscription.duplicate_refunded',
  'subscription.duplicate_unrefunded',
  'subscription.duplicate_left',
  'invoice.paid',
  'invoice.payment_failed',
  'invoice.payment_failure_resolved',
  'invoice.payment_action_required',
  'payment.unrecognised',
  'trial_pack.redeemed',
  'trial_pack.suspended',
  'trial_pack.reinstated',
  'trial_pack.credit_reduced',
  'trial_pack.revoked',
  'trial_pack.expired',
  'trial_pack.credit_nearly_used',
  'trial_pack.credit_used_up',
  'trial_pack.credit_expiring',
  'trial_pack.duplicate_refunded',
  'webhook_endpoint.created',
  'webhook_endpoint.updated',
  'webhook_endpoint.deleted',
  'webhook_endpoint.secret_rotated',
  'webhook_delivery.replayed',
  'operator.reconciled',
  'operator.event_replayed',
  'operator.email_retried',
] as const;
export type AuditAction = (typeof AUDIT_ACTIONS)[number];

export const AUDIT_ACTOR_TYPES = ['customer', 'system', 'staff'] as const;
export type AuditActorType = (typeof AUDIT_ACTOR_TYPES)[number];

export const auditEntrySchema = z
  .strictObject({
    id: z.string().meta({
      description: 'The id of the entry, a bare uuid.',
      examples: ['01890a5d-ac96-774b-bcce-b302099a8057'],
    }),
    account_id: z.string().meta({
      description: 'The account the entry belongs to: `acc_` and a uuid.',
      examples: ['acc_01890a5d-ac96-774b-bcce-b302099a8057'],
    }),
    actor_type: z.enum(AUDIT_ACTOR_TYPES).meta({
      description: 'Who did it. What Stripe reports is done by `system`.',
      examples: ['system'],
    }),
    actor_account_id: z
      .string()
      .nullable()
      .meta({
        description: 'The account that acted, where a customer did.',
        examples: [null],
      }),
    actor_key_id: z
      .string()
      .nullable()
      .meta({
        description: 'The API key that acted, where a customer did.',
        examples: [null],
      }),
    action: z.string().meta({
      description: `What happened, one of ${AUDIT_ACTIONS.join(', ')}. New actions may be added.`,
      examples: ['subscription.tier_changed'],
    }),
    target_resource_id: z
      .string()
      .nullable()
      .meta({
        description: 'What it happened to.',
        examples: ['sub_01890a5d-ac96-774b-bcce-b302099a8057'],
      }),
    payload: z.record(z.string(), z.unknown()).meta({
      description: 'The particulars, which depend on the action; the source event or request stands in it.',
      examples: [{ from: null, to: 'api_builder' }],
    }),
    ip_address: z.null().meta({ description: 'Always null in this service.' }),
    user_agent: z.null().meta({ description: 'Always null in this service.' }),
    timestamp: wireTimeSchema.meta({
      description:
        'When it was written down. What we heard of Stripe may have happened earlier; where Stripe says when, ' +
        'the payload says so.',
      examples: ['2026-05-01T00:00:00Z'],
    }),
  })
  .meta({ id: 'AuditEntry', description: 'One fact in the life of an account. It is never changed.' });
export type AuditEntry = z.infer<typeof auditEntrySchema>;

const moment = z.string().refine(isMoment, 'must be a moment in UTC such as 2026-05-01T00:00:00Z');

/** The input of `auditLog.list`. */
export const auditListInput = z
  .strictObject({
    ...pageFields,
    action: z
      .string()
      .regex(/^[a-z_]{1,64}\.[a-z_]{1,64}$/, 'must look like subscription.tier_changed')
      .meta({ description: 'Only entries with this action.', examples: ['subscription.tier_changed'] })
      .optional(),
    since: moment
      .meta({ description: 'Only entries of this moment or later.', examples: ['2026-05-01T00:00:00Z'] })
      .optional(),
    until: moment
      .meta({ description: 'Only entries of before this moment.', examples: ['2026-06-01T00:00:00Z'] })
      .optional(),
  })
  .prefault({})
  .meta({ description: 'Which part of the audit log to read.' });
export type AuditListInput = z.infer<typeof auditListInput>;

/** The output of `auditLog.list`. */
export const auditListResult = z
  .strictObject({
    data: z.array(auditEntrySchema).meta({ description: 'The entries, newest first.' }),
    next_cursor: nextCursor,
  })
  .meta({
    id: 'AuditLogPage',
    description: 'One page of the audit log, newest first; it stays stable while entries are added.',
    examples: [
      {
        data: [
          {
            id: '01890a5d-ac96-774b-bcce-b302099a8057',
            account_id: 'acc_01890a5d-ac96-774b-bcce-b302099a8057',
            actor_type: 'system',
            actor_account_id: null,
            actor_key_id: null,
            action: 'subscription.tier_changed',
            target_resource_id: 'sub_01890a5d-ac96-774b-bcce-b302099a8057',
            payload: { from: null, to: 'api_builder', stripe_event_id: 'evt_1PqRsTuVwXyZ' },
            ip_address: null,
            user_agent: null,
            timestamp: '2026-05-01T00:00:00Z',
          },
        ],
        next_cursor: null,
      },
    ],
  });
export type AuditListResult = z.infer<typeof auditListResult>;
