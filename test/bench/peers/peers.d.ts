/*
 * As much of the peers' types as is used here, so that the types can be checked where they are not installed.
 */
declare module '@supabase/stripe-sync-engine' {
  export class StripeSync {
    constructor(config: {
      poolConfig: { connectionString: string; max: number };
      stripeSecretKey: string;
      stripeWebhookSecret: string;
    });
    processWebhook(payload: Buffer, signature: string | undefined): Promise<void>;
  }
  export function runMigrations(config: {
    databaseUrl: string;
    schema: string;
    logger: { info(message: string): void; error(error: unknown, message: string): void };
  }): Promise<void>;
}

declare module 'better-auth' {
  export type Auth = { readonly options: object; handler(request: Request): Promise<Response> };
  export function betterAuth(options: object): Auth;
}

declare module 'better-auth/node' {
  import type { IncomingMessage, ServerResponse } from 'node:http';
  import type { Auth } from 'better-auth';
  export function toNodeHandler(
    auth: Auth,
  ): (request: IncomingMessage, response: ServerResponse) => Promise<void>;
}

declare module 'better-auth/db/migration' {
  export function getMigrations(options: object): Promise<{ runMigrations(): Promise<void> }>;
}

declare module '@better-auth/stripe' {
  export function stripe(options: object): object;
}
