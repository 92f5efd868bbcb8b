import { createTRPCClient, httpLink, TRPCClientError } from '@trpc/client';
import type { inferRouterInputs, inferRouterOutputs } from '@trpc/server';
import type { AppRouter } from '../server/api/root.ts';
import { ERROR_BASE, PROBLEMS, type Problem, type ProblemSlug, problemSchema } from './errors.ts';

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

export type MintingOptions = CallOptions & {
  /** Makes repeating the call safe; the same key with the same input gives the same answer. */
  idempotencyKey?: string;
};

const TIMEOUT_MS = 60_000;

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
      /** What the account has bought; with `checkout_session_id`, brought up to date with Stripe first. */
      getState: (input?: Inputs['billing']['getState'], call?: CallOptions) =>
        translated(trpc.billing.getState.query(input, terms(call))),

      /** Opens a Checkout session for a subscription. */
      startCheckoutSession: (input: Inputs['billing']['startCheckoutSession'], call?: MintingOptions) =>
        translated(trpc.billing.startCheckoutSession.mutate(input, terms(call))),

      /** Opens a Checkout session for the trial pack. */
      startTrialPack: (input?: Inputs['billing']['startTrialPack'], call?: MintingOptions) =>
        translated(trpc.billing.startTrialPack.mutate(input, terms(call))),

      /** Mints a single-use, short-lived URL into Stripe's Customer Portal. */
      startPortalSession: (input?: Inputs['billing']['startPortalSession'], call?: MintingOptions) =>
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

/** What kind of failure it was: the last part of `type`, or one of the two that no answer of ours describes. */
export type ErrorKind = ProblemSlug | 'network' | 'unexpected-answer';

/** Why a call failed. `status` is 0 when there was no answer. */
export class DriftstackError extends Error {
  override readonly name = 'DriftstackError';
  readonly kind: ErrorKind;
  readonly status: number;
  /** The stable identifier of the problem; `about:blank` when the service described none. */
  readonly type: string;
  readonly title: string;
  readonly detail: string;
  /** Finer than `kind` where callers need to tell cases apart, such as `already_subscribed`. */
  readonly code: string;
  /** Quote it when you ask for help; null when there was no answer. */
  readonly requestId: string | null;
  /** All other members of the problem, such as `errors` and `retry_after_seconds`. */
  readonly extensions: Readonly<Record<string, unknown>>;

  constructor(kind: ErrorKind, problem: Problem, cause?: unknown) {
    super(problem.detail, { cause });
    const { type, title, status, detail, instance, code, ...extensions } = problem;
    this.kind = kind;
    this.status = status;
    this.type = type;
    this.title = title;
    this.detail = detail;
    this.code = code;
    this.requestId = instance === '' ? null : instance;
    this.extensions = extensions;
  }
}

/** Whether the same call may succeed later: after `rate-limited`, `internal` and network failures, only. */
export function isRetryable(error: unknown): boolean {
  return (
    error instanceof DriftstackError &&
    (error.kind === 'rate-limited' || error.kind === 'internal' || error.kind === 'network')
  );
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

type Fetch = typeof globalThis.fetch;
type FetchOfLink = (
  url: Parameters<Fetch>[0],
  init?: { signal?: AbortSignal | null | undefined },
) => Promise<Response>;

/** Fetches within the time given; an answer that is not JSON throws the DriftstackError that says so. */
export function jsonFetch({
  fetch = globalThis.fetch,
  timeoutMs = TIMEOUT_MS,
}: {
  fetch: Fetch | undefined;
  timeoutMs: number | undefined;
}): FetchOfLink {
  return async (url, init) => {
    const limit = AbortSignal.timeout(timeoutMs);
    const signal = init?.signal ? AbortSignal.any([init.signal, limit]) : limit;
    // tRPC describes the body more widely than fetch does; it only ever sends text.
    const response = await fetch(url, { ...(init as RequestInit), signal });
    if (!isJson(response)) throw notOurs(response.status);
    return response;
  };
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
    create: (input: WebhookInputs['create'], call?: CallOptions) =>
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
    test: (id: string, call?: CallOptions) => translated(webhooks.test.mutate({ id }, terms(call))),
    /** Makes a new secret, answered this once; the one before signs as well for 24 hours. */
    rotateSecret: (id: string, call?: CallOptions) =>
      translated(webhooks.rotateSecret.mutate({ id }, terms(call))),
    /** Sends every event after a sequence number once more. */
    replay: (id: string, { after }: { after: number }, call?: CallOptions) =>
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
    replayDelivery: (id: string, call?: CallOptions) =>
      translated(webhooks.replayDelivery.mutate({ id }, terms(call))),
  };
}

function terms({ signal, idempotencyKey }: MintingOptions = {}) {
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

/** Waits for a call of tRPC's client; whatever it throws becomes a DriftstackError. */
export async function translated<T>(calling: Promise<T>): Promise<T> {
  try {
    return await calling;
  } catch (error) {
    throw toDriftstackError(error);
  }
}

function toDriftstackError(error: unknown): DriftstackError {
  if (error instanceof Error && error.cause instanceof DriftstackError) return error.cause;
  const data: unknown = error instanceof TRPCClientError ? error.data : undefined;
  const candidate = data instanceof Object && 'problem' in data ? data.problem : undefined;
  // What the door refuses before tRPC has a say is a problem document itself.
  const parsed = problemSchema.safeParse(candidate ?? metaOf(error)['responseJSON']);
  if (parsed.success) return new DriftstackError(kindOf(parsed.data), parsed.data, error);
  const status = statusOf(error);
  if (status > 0) return notOurs(status, error);
  return new DriftstackError('network', undescribed(0, 'The service could not be reached.'), error);
}

function isJson(response: Response): boolean {
  return /^application\/(?:[\w.-]+\+)?json\b/i.test(response.headers.get('content-type') ?? '');
}

/** An answer by something between us, such as a proxy. */
function notOurs(status: number, cause?: unknown): DriftstackError {
  const detail = `The answer, with status ${status}, is not one of the Driftstack API. Check the base URL.`;
  return new DriftstackError(
    status >= 500 ? 'internal' : 'unexpected-answer',
    undescribed(status, detail),
    cause,
  );
}

function metaOf(error: unknown): Record<string, unknown> {
  return error instanceof TRPCClientError && error.meta ? error.meta : {};
}

function statusOf(error: unknown): number {
  const { response } = metaOf(error);
  return response instanceof Object && 'status' in response && typeof response.status === 'number'
    ? response.status
    : 0;
}

/** A kind that a newer service invents is told by its status. */
function kindOf({ type, status }: Problem): ErrorKind {
  const slug = type.startsWith(ERROR_BASE) ? type.slice(ERROR_BASE.length) : '';
  return isSlug(slug) ? slug : status >= 500 ? 'internal' : 'unexpected-answer';
}

function undescribed(status: number, detail: string): Problem {
  return { type: 'about:blank', title: 'No description', status, detail, instance: '', code: 'none' };
}

function isSlug(text: string): text is ProblemSlug {
  return Object.hasOwn(PROBLEMS, text);
}
