import { createTRPCClient, httpLink } from '@trpc/client';
import type { inferRouterInputs, inferRouterOutputs } from '@trpc/server';
import type { AppRouter } from '../server/api/root.ts';
import { jsonFetch, translated } from './client-errors.ts';

type Inputs = inferRouterInputs<AppRouter>;
type Outputs = inferRouterOutputs<AppRouter>;
type AuditListInput = Exclude<Inputs['auditLog']['list'], void>;
type AuditEntry = Outputs['auditLog']['list']['data'][number];
type BillingEvent = Outputs['events']['list']['data'][number];
type WebhookInputs = Inputs['webhooks'];
type DeliveryListInput = Omit<WebhookInputs['listDeliveries'], 'id'>;
type WebhookDelivery = Outputs['webhooks']['listDeliveries']['data'][number];
type UsageListInput = Exclude<Inputs['billing']['listTrialPackUsage'], void>;
type CreditEntry = Outputs['billing']['listTrialPackUsage']['data'][number];

export type DriftstackOptions = {
  /** `ds_live_…` */
  apiKey: string;
  /** Where the service is, such as `https://api.driftstack.dev`. */
  baseUrl: string;
  /** Takes the place of the global one. */
  fetch?: typeof globalThis.fetch;
  /** How long one call may take; 60 seconds unless told otherwise. */
  timeoutMs?: number;
};

export type CallOptions = {
  signal?: AbortSignal;
};

export type PostOptions = CallOptions & {
  /** Makes repeating the call safe; the same key with the same input gives the same answer. */
  idempotencyKey?: string;
};

/** The typed client of the billing API. Making one calls nothing; every call throws a DriftstackError. */
export class Driftstack {
  readonly billing;
  readonly auditLog;
  readonly webhooks;

  constructor(options: DriftstackOptions) {
    const trpc = connect(options);
    const listUsage = (input?: Inputs['billing']['listTrialPackUsage'], call?: CallOptions) =>
      translated(trpc.billing.listTrialPackUsage.query(input, terms(call)));
    this.billing = {
      /**
       * What the account has bought; with `checkout_session_id`, brought up to date with Stripe first. A `tier` may
       * be used only while `status` is `active`, `trialing` or `past_due`; otherwise it is the last one had.
       */
      getState: (input?: Inputs['billing']['getState'], call?: CallOptions) =>
        translated(trpc.billing.getState.query(input, terms(call))),

      /** Opens a Checkout session for a subscription. */
      startCheckoutSession: (input: Inputs['billing']['startCheckoutSession'], call?: PostOptions) =>
        translated(trpc.billing.startCheckoutSession.mutate(input, terms(call))),

      /** Opens a Checkout session for the trial pack. */
      startTrialPack: (input?: Inputs['billing']['startTrialPack'], call?: PostOptions) =>
        translated(trpc.billing.startTrialPack.mutate(input, terms(call))),

      /** Mints a single-use, short-lived URL into Stripe's Customer Portal. */
      startPortalSession: (input?: Inputs['billing']['startPortalSession'], call?: PostOptions) =>
        translated(trpc.billing.startPortalSession.mutate(input, terms(call))),

      /** One page of what came to and went from the trial-pack credit, newest first. */
      listTrialPackUsage: listUsage,

      /** Every entry of the trial-pack credit, newest first, read page by page as the loop goes on. */
      iterateTrialPackUsage: (
        input: UsageListInput = {},
        call?: CallOptions,
      ): AsyncGenerator<CreditEntry, void, undefined> => pages(listUsage, input, call),

      /** What webhooks carry, to be read on from the last sequence number you have handled. */
      events: eventCalls(trpc),
    };

    const list = (input?: Inputs['auditLog']['list'], call?: CallOptions) =>
      translated(trpc.auditLog.list.query(input, terms(call)));
    this.auditLog = {
      /** One page of the audit log, newest first. */
      list,
      /** Every entry, newest first, read page by page as the loop goes on. */
      iterate: (
        input: AuditListInput = {},
        call?: CallOptions,
      ): AsyncGenerator<AuditEntry, void, undefined> => pages(list, input, call),
    };
    this.webhooks = webhookCalls(trpc);
  }
}

function connect({ apiKey, baseUrl, fetch, timeoutMs }: DriftstackOptions) {
  return createTRPCClient<AppRouter>({
    links: [
      httpLink({
        url: `${baseUrl.replace(/\/+$/, '')}/trpc`,
        headers: ({ op }) => {
          const key = op.context['idempotencyKey'];
          return {
            authorization: `Bearer ${apiKey}`,
            ...(typeof key === 'string' && { 'idempotency-key': key }),
          };
        },
        fetch: jsonFetch({ fetch, timeoutMs }),
      }),
    ],
  });
}

type Trpc = ReturnType<typeof createTRPCClient<AppRouter>>;

function eventCalls(trpc: Trpc) {
  const list = (input?: Inputs['events']['list'], call?: CallOptions) =>
    translated(trpc.events.list.query(input, terms(call)));
  return {
    /** A part of the feed, oldest first. */
    list,
    /** Every event after a sequence number, in order; ends where there are no more at the moment. */
    async *iterate(
      { after = 0 }: { after?: number } = {},
      call?: CallOptions,
    ): AsyncGenerator<BillingEvent, void, undefined> {
      for (let last = after; ; ) {
        const page = await list({ after: last, limit: 100 }, call);
        yield* page.data;
        last = page.data.at(-1)?.sequence ?? last;
        if (!page.has_more) return;
      }
    },
  };
}

function webhookCalls({ webhooks }: Trpc) {
  const listDeliveries = (id: string, input: DeliveryListInput = {}, call?: CallOptions) =>
    translated(webhooks.listDeliveries.query({ ...input, id }, terms(call)));
  return {
    /** Registers an endpoint. The answer holds its secret, this once. */
    create: (input: WebhookInputs['create'], call?: PostOptions) =>
      translated(webhooks.create.mutate(input, terms(call))),
    /** One page of the endpoints, newest first. */
    list: (input?: WebhookInputs['list'], call?: CallOptions) =>
      translated(webhooks.list.query(input, terms(call))),
    get: (id: string, call?: CallOptions) => translated(webhooks.get.query({ id }, terms(call))),
    /** Changes what is given; `active: false` pauses. */
    update: (id: string, patch: Omit<WebhookInputs['update'], 'id'>, call?: CallOptions) =>
      translated(webhooks.update.mutate({ ...patch, id }, terms(call))),
    /** Deletes an endpoint for good; repeating it changes nothing. */
    delete: async (id: string, call?: CallOptions): Promise<void> => {
      await translated(webhooks.delete.mutate({ id }, terms(call)));
    },
    /** Sends `test.ping`. */
    test: (id: string, call?: PostOptions) => translated(webhooks.test.mutate({ id }, terms(call))),
    /** Makes a new secret, answered this once; the one before signs as well for 24 hours. */
    rotateSecret: (id: string, call?: PostOptions) =>
      translated(webhooks.rotateSecret.mutate({ id }, terms(call))),
    /** Sends every event after a sequence number once more. */
    replay: (id: string, { after }: { after: number }, call?: PostOptions) =>
      translated(webhooks.replay.mutate({ id, after }, terms(call))),
    /** One page of the deliveries to an endpoint, newest first. */
    listDeliveries,
    /** Every delivery to an endpoint, newest first, read page by page as the loop goes on. */
    iterateDeliveries: (
      id: string,
      input: DeliveryListInput = {},
      call?: CallOptions,
    ): AsyncGenerator<WebhookDelivery, void, undefined> =>
      pages((page: DeliveryListInput, terms?: CallOptions) => listDeliveries(id, page, terms), input, call),
    /** Sends what a delivery carried once more. */
    replayDelivery: (id: string, call?: PostOptions) =>
      translated(webhooks.replayDelivery.mutate({ id }, terms(call))),
  };
}

function terms({ signal, idempotencyKey }: PostOptions = {}) {
  return { ...(signal && { signal }), context: { idempotencyKey } };
}

async function* pages<I extends { cursor?: string | undefined }, T>(
  list: (input: I, call?: CallOptions) => Promise<{ data: T[]; next_cursor: string | null }>,
  input: I,
  call: CallOptions | undefined,
): AsyncGenerator<T, void, undefined> {
  for (let cursor = input.cursor; ; ) {
    const page = await list({ ...input, ...(cursor !== undefined && { cursor }) }, call);
    yield* page.data;
    if (page.next_cursor === null) return;
    cursor = page.next_cursor;
  }
}
