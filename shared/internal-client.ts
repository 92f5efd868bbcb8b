import { createTRPCClient, httpLink } from '@trpc/client';
import type { inferRouterInputs } from '@trpc/server';
import type { InternalRouter } from '../server/api/internal.ts';
import type { CallOptions } from './client.ts';
import { jsonFetch, translated } from './client-errors.ts';

type Inputs = inferRouterInputs<InternalRouter>;

export type InternalOptions = {
  /** The service token, `INTERNAL_API_TOKEN` of the deployment. */
  token: string;
  /** Where the service is, such as `http://billing.internal:4242`. */
  baseUrl: string;
  /** Takes the place of the global one. */
  fetch?: typeof globalThis.fetch;
  /** How long one call may take; 60 seconds unless told otherwise. */
  timeoutMs?: number;
};

/**
 * The typed client for programs of the operator: the session runtime and the main API. Every call throws a
 * DriftstackError. After a network failure or an `internal` one send the same call again, with the same ids: use
 * is entered and credit is held once.
 */
export class DriftstackInternal {
  readonly credit;
  readonly accounts;
  readonly keys;

  constructor({ token, baseUrl, fetch, timeoutMs }: InternalOptions) {
    const trpc = createTRPCClient<InternalRouter>({
      links: [
        httpLink({
          url: `${baseUrl.replace(/\/+$/, '')}/internal/trpc`,
          headers: { authorization: `Bearer ${token}` },
          fetch: jsonFetch({ fetch, timeoutMs }),
        }),
      ],
    });
    this.credit = {
      /** Takes use from the credit, as much as it covers. When `used_up` is true, end the account's sessions. */
      reportUse: (input: Inputs['credit']['reportUse'], call?: CallOptions) =>
        translated(trpc.credit.reportUse.mutate(input, call)),

      /** Holds credit for a session that is about to start; with `reserved_seconds: 0` it must not. */
      reserve: (input: Inputs['credit']['reserve'], call?: CallOptions) =>
        translated(trpc.credit.reserve.mutate(input, call)),

      /** Takes what a session used of its reservation, once, and frees the rest. */
      settle: (input: Inputs['credit']['settle'], call?: CallOptions) =>
        translated(trpc.credit.settle.mutate(input, call)),

      /** Frees a reservation of which nothing was used. */
      release: (input: Inputs['credit']['release'], call?: CallOptions) =>
        translated(trpc.credit.release.mutate(input, call)),

      /** Reads what is left, held and free. */
      balance: (input: Inputs['credit']['balance'], call?: CallOptions) =>
        translated(trpc.credit.balance.query(input, call)),
    };
    this.accounts = {
      /** Opens an account; refuses an address that is in use with `email_taken`. */
      create: (input: Inputs['accounts']['create'], call?: CallOptions) =>
        translated(trpc.accounts.create.mutate(input, call)),

      /** Finds an account by its address. */
      find: (input: Inputs['accounts']['find'], call?: CallOptions) =>
        translated(trpc.accounts.find.query(input, call)),
    };
    this.keys = {
      /** Issues an API key, shown this once. */
      issue: (input: Inputs['keys']['issue'], call?: CallOptions) =>
        translated(trpc.keys.issue.mutate(input, call)),

      /** Revokes an API key for good, at once. */
      revoke: (input: Inputs['keys']['revoke'], call?: CallOptions) =>
        translated(trpc.keys.revoke.mutate(input, call)),
    };
  }
}
