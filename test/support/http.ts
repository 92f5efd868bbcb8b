import type { FastifyInstance } from 'fastify';
import type { ApiDeps } from '../../server/api/context.ts';
import { createAccount } from '../../server/billing/accounts.ts';
import { issueKey } from '../../server/billing/keys.ts';
import { parseAllowlist } from '../../server/billing/redirects.ts';
import { connectDatabase, type Database } from '../../server/database/connection.ts';
import { Account } from '../../server/database/entities/account.ts';
import { buildHttp, type HttpDeps } from '../../server/http/app.ts';
import { createLog } from '../../server/http/log.ts';
import { connectStripe } from '../../server/stripe/api/gateway.ts';
import type { Scope } from '../../shared/scopes.ts';
import type { Clock } from '../../shared/time.ts';
import { createTestDatabase } from './database.ts';
import { type ScriptedStripe, startScriptedStripe } from './scripted-stripe.ts';

export type TestHttp = {
  readonly app: FastifyInstance;
  readonly url: string;
  readonly db: Database;
  /** Where it mints, unless it was given another gateway. */
  readonly stripe: ScriptedStripe;
  /** Every line the app logged. */
  readonly lines: string[];
  /** An account that is a customer at Stripe, and has bought nothing. */
  openAccount(scopes?: readonly Scope[]): Promise<{ accountId: string; keyId: string; key: string }>;
  /** Calls a path; `key` becomes the bearer, `json` the body. */
  call(path: string, init?: RequestInit & { key?: string; json?: unknown }): Promise<Response>;
  close(): Promise<void>;
};

export type TestHttpOptions = Partial<Omit<HttpDeps, 'db' | 'log' | 'api'>> & {
  /** Instead of what the API works with otherwise. */
  deps?: Partial<ApiDeps>;
  limits?: NonNullable<HttpDeps['api']>['limits'];
  logLevel?: string;
  poolMax?: number;
  /** Where the database seems to be, for a proxy in between. */
  through?: (databaseUrl: string) => Promise<string>;
  /** Adds doors of its own. */
  mount?: (scope: FastifyInstance, db: Database) => void;
  /** Leaves the API out. */
  withoutApi?: boolean;
  /** Where the hosts of webhook endpoints are; somewhere public if not given. */
  resolve?: (host: string) => Promise<string[]>;
};

/** Under which tests keep the secrets of webhook endpoints. */
export const WEBHOOK_KEY = Buffer.alloc(32, 7);

const systemClock: Clock = { now: () => new Date() };

/** Starts the whole HTTP room on a database of its own, beside a scripted Stripe; mails and passes do not run. */
export async function startHttp(options: TestHttpOptions = {}): Promise<TestHttp> {
  const {
    deps,
    limits,
    logLevel = 'debug',
    poolMax = 10,
    clock = systemClock,
    through,
    resolve = async () => ['93.184.215.14'],
    ...rest
  } = options;
  const database = await createTestDatabase();
  const databaseUrl = through ? await through(database.url) : database.url;
  const db = await connectDatabase({
    url: databaseUrl,
    poolMax,
    applicationName: 'test-http',
    connectionTimeoutMs: 1_000,
  });
  const stripe = await startScriptedStripe();
  const lines: string[] = [];
  const log = createLog({ level: logLevel, stream: { write: (line) => void lines.push(line) } });
  const address = 'https://your.app/x';
  const api: ApiDeps = {
    db,
    clock,
    log,
    gateway: connectStripe({ secretKey: 'sk_test_scripted', apiBase: stripe.url }),
    redirects: parseAllowlist(['https://your.app']),
    defaults: { checkoutSuccessUrl: address, checkoutCancelUrl: address, portalReturnUrl: address },
    commit: db.transactionOn,
    secretKey: WEBHOOK_KEY,
    destinations: { resolve, ports: [], loopback: false },
    ...deps,
  };
  const app = buildHttp({
    ...rest,
    db,
    clock,
    log,
    ...(!options.withoutApi && { api: { deps: api, ...(limits && { limits }) } }),
  });
  const { mount } = options;
  if (mount) app.register(async (scope) => mount(scope, db));
  const url = await app.listen({ host: '127.0.0.1', port: 0 });
  let accounts = 0;
  return {
    app,
    url,
    db,
    stripe,
    lines,
    openAccount: (scopes = ['account_owner']) =>
      db.transaction(async (tx) => {
        const now = new Date();
        const account = await createAccount(tx, { email: `caller-${++accounts}@example.com`, now });
        await tx.nativeUpdate(Account, account.id, { stripeCustomerId: stripe.newId('cus') });
        const issued = await issueKey(tx, { accountId: account.id, scopes, name: 'test', now });
        return { accountId: account.id, keyId: issued.id, key: issued.key };
      }),
    call: (path, { key, json, ...init } = {}) => {
      const headers = new Headers(init.headers);
      if (key !== undefined) headers.set('authorization', `Bearer ${key}`);
      if (json !== undefined) headers.set('content-type', 'application/json');
      return fetch(`${url}${path}`, {
        ...init,
        headers,
        ...(json !== undefined && { method: 'POST', body: JSON.stringify(json) }),
      });
    },
    close: async () => {
      await app.close();
      await db.close();
      await stripe.close();
      await database.drop();
    },
  };
}
