import { TRPCClientError } from '@trpc/client';
import { ERROR_BASE, PROBLEMS, type Problem, type ProblemSlug, problemSchema } from './errors.ts';

const TIMEOUT_MS = 60_000;

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
