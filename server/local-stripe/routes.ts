import type { Deliveries } from './deliveries.ts';
import type { Includes } from './expand.ts';
import { billingPortalRoutes } from './resources/billing-portal.ts';
import { chargeIncludes, chargeRoutes } from './resources/charges.ts';
import { checkoutSessionIncludes, checkoutSessionRoutes } from './resources/checkout-sessions.ts';
import { customerIncludes, customerRoutes } from './resources/customers.ts';
import { disputeRoutes } from './resources/disputes.ts';
import { eventRoutes } from './resources/events.ts';
import { invoiceItemRoutes } from './resources/invoice-items.ts';
import { invoicePaymentRoutes } from './resources/invoice-payments.ts';
import { invoiceIncludes, invoiceRoutes } from './resources/invoices.ts';
import { paymentIntentRoutes } from './resources/payment-intents.ts';
import { paymentMethodRoutes } from './resources/payment-methods.ts';
import { paymentPageRoutes } from './resources/payment-pages.ts';
import { priceRoutes } from './resources/prices.ts';
import { productRoutes } from './resources/products.ts';
import { refundRoutes } from './resources/refunds.ts';
import { setupIntentRoutes } from './resources/setup-intents.ts';
import { subscriptionItemRoutes } from './resources/subscription-items.ts';
import { subscriptionScheduleRoutes } from './resources/subscription-schedules.ts';
import { subscriptionRoutes } from './resources/subscriptions.ts';
import { testClockRoutes } from './resources/test-clocks.ts';
import { webhookEndpointRoutes } from './resources/webhook-endpoints.ts';
import type { Route } from './route.ts';
import { type CliListeners, stripeCliRoutes } from './stripe-cli.ts';

/** The whole API. Each resources file brings its own routes. */
export function routes(deliveries: Deliveries, listeners: CliListeners): readonly Route[] {
  return [
    ...billingPortalRoutes,
    ...chargeRoutes,
    ...checkoutSessionRoutes,
    ...customerRoutes,
    ...disputeRoutes,
    ...eventRoutes(deliveries, listeners),
    ...invoiceItemRoutes,
    ...invoicePaymentRoutes,
    ...invoiceRoutes,
    ...paymentIntentRoutes,
    ...paymentMethodRoutes,
    ...paymentPageRoutes,
    ...priceRoutes,
    ...productRoutes,
    ...refundRoutes,
    ...setupIntentRoutes,
    ...stripeCliRoutes,
    ...subscriptionItemRoutes,
    ...subscriptionScheduleRoutes,
    ...subscriptionRoutes,
    ...testClockRoutes,
    ...webhookEndpointRoutes,
  ];
}

/** What objects show only when asked (`expand`). */
export const INCLUDES: Includes = {
  ...chargeIncludes,
  ...checkoutSessionIncludes,
  ...customerIncludes,
  ...invoiceIncludes,
};
