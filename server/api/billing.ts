import {
  billingStateSchema,
  checkoutSessionInput,
  checkoutSessionResult,
  getStateInput,
  portalSessionInput,
  portalSessionResult,
  trialPackInput,
} from '../../shared/billing.ts';
import { usageListInput, usageListResult } from '../../shared/usage.ts';
import { startCheckout, startTrialPack } from '../billing/checkout.ts';
import { startPortal } from '../billing/portal.ts';
import { readState } from '../billing/read-state.ts';
import { listUsage } from '../credit/list.ts';
import { answer, postProcedure, procedure } from './init.ts';
import { router } from './procedure.ts';

const tags = ['Billing'];

/** What an account has bought, and the ways to buy. */
export const billingRouter = router({
  getState: procedure
    .meta({
      scope: 'read:billing',
      bucket: 'global',
      openapi: {
        method: 'GET',
        path: '/v1/billing',
        operationId: 'getBillingState',
        tags,
        summary: 'Read billing state',
        description:
          'What the account of the API key has bought: its subscription, or null, and its trial pack. ' +
          'With `checkout_session_id` the account is first brought up to date with Stripe, so a success ' +
          'page can read its own purchase without polling.',
        successDescription: 'The state of the account.',
      },
    })
    .input(getStateInput)
    .output(billingStateSchema)
    .query(({ ctx, input }) => readState(ctx.deps, ctx.caller, input)),

  startCheckoutSession: postProcedure
    .meta({
      scope: 'admin:billing',
      bucket: 'minting',
      openapi: {
        method: 'POST',
        path: '/v1/billing/checkout-session',
        operationId: 'startCheckoutSession',
        tags,
        summary: 'Start a subscription',
        description:
          'Opens a Checkout session at Stripe. Redirect the customer to `checkout_url`; Stripe collects the ' +
          'card and sends the customer to `success_url`. While a session is open, the same parameters give ' +
          'the same session back; other parameters close it and open a new one. An account that has a ' +
          'subscription changes it in the customer portal instead.',
        successDescription: 'The session to send the customer to.',
      },
    })
    .input(checkoutSessionInput)
    .output(checkoutSessionResult)
    .mutation(async ({ ctx, input }) => answer(ctx, await startCheckout(ctx.deps, ctx.caller, input))),

  startTrialPack: postProcedure
    .meta({
      scope: 'admin:billing',
      bucket: 'minting',
      openapi: {
        method: 'POST',
        path: '/v1/billing/trial-pack',
        operationId: 'startTrialPack',
        tags,
        summary: 'Start the trial pack',
        description:
          'Opens a Checkout session for the trial pack: one charge of $2.99 that credits 299 cents of ' +
          'session time for 14 days. Once per account, for ever.',
        successDescription: 'The session to send the customer to.',
      },
    })
    .input(trialPackInput)
    .output(checkoutSessionResult)
    .mutation(async ({ ctx, input }) => answer(ctx, await startTrialPack(ctx.deps, ctx.caller, input))),

  listTrialPackUsage: procedure
    .meta({
      scope: 'read:billing',
      bucket: 'global',
      openapi: {
        method: 'GET',
        path: '/v1/billing/trial-pack/usage',
        operationId: 'listTrialPackUsage',
        tags,
        summary: 'List what the trial pack was spent on',
        description:
          'Every change of the trial-pack credit, newest first: the grant, what sessions used, and what ended ' +
          'or went back. The entries add up to the balance.',
        successDescription: 'One page of the entries.',
      },
    })
    .input(usageListInput)
    .output(usageListResult)
    .query(({ ctx, input }) => listUsage(ctx.deps.db, ctx.caller.accountId, input)),

  startPortalSession: postProcedure
    .meta({
      scope: 'admin:billing',
      bucket: 'minting',
      openapi: {
        method: 'POST',
        path: '/v1/billing/portal-session',
        operationId: 'startPortalSession',
        tags,
        summary: 'Open the customer portal',
        description:
          "Mints a URL into Stripe's Customer Portal, where customers manage payment methods, download " +
          'invoices, change or cancel their plan. The URL is single-use and short-lived: mint a fresh one ' +
          'for each visit.',
        successDescription: 'The way into the portal.',
      },
    })
    .input(portalSessionInput)
    .output(portalSessionResult)
    .mutation(async ({ ctx, input }) => answer(ctx, await startPortal(ctx.deps, ctx.caller, input))),
});
