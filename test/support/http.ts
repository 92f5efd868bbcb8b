import type { FastifyInstance } from 'fastify';
import type { UseCases } from '../../server/api/context.ts';
import { listAudit } from '../../server/audit/list.ts';
import { createAccount } from '../../server/billing/accounts.ts';
import { issueKey } from '../../server/billing/keys.ts';
import { once } from '../../server/billing/once.ts';
import { billingState } from '../../server/billing/state.ts';
import { listUsage } from '../../server/credit/list.ts';
import { connectDatabase, type Database } from '../../server/database/connection.ts';
import { buildHttp, type HttpDeps } from '../../server/http/app.ts';
import { createLog } from '../../server/http/log.ts';
import { webhookUseCases } from '../../server/webhooks/use-cases.ts';
import type { Scope } from '../../shared/scopes.ts';
import type { Clock } from '../../shared/time.ts';
import { createTestDatabase } from './database.ts';

export type TestHttp = {
  readonly app: FastifyInstance;
  readonly url: string;
  readonly db: Database;
  /** Every line the app logged. */
  readonly lines: string[];
  openAccount(scopes?: readonly Scope[]): Promise<{ accountId: string; keyId: string; key: string }>;
  /** Calls a path; `key` becomes the bearer, `json` the body. */
  call(path: string, init?: RequestInit & { key?: string; json?: unknown }): Promise<Response>;
  close(): Promise<void>;
};

export type TestHttpOptions = Partial<Omit<HttpDeps, 'db' | 'log' | 'api'>> & {
  useCases?: Partial<UseCases>;
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

/** Starts the whole HTTP room on a database of its own; minting is answered by fakes unless given. */
export async function startHttp(options: TestHttpOptions = {}): Promise<TestHttp> {
  const {
    useCases,
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
  const lines: string[] = [];
  const app = buildHttp({
    ...rest,
    db,
    clock,
    log: createLog({ level: logLevel, stream: { write: (line) => void lines.push(line) } }),
    ...(!options.withoutApi && {
      api: { useCases: { ...fakeUseCases(db, clock, resolve), ...useCases }, ...(limits && { limits }) },
    }),
  });
  const { mount } = options;
  if (mount) app.register(async (scope) => mount(scope, db));
  const url = await app.listen({ host: '127.0.0.1', port: 0 });
  let accounts = 0;
  return {
    app,
    url,
    db,
    lines,
    openAccount: (scopes = ['account_owner']) =>
      db.transaction(async (tx) => {
        const now = new Date();
        const account = await createAccount(tx, { email: `caller-${++accounts}@example.com`, now });
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
      await database.drop();
    },
  };
}

/** Real reading; what would call Stripe answers with what it was given. */
function fakeUseCases(
  db: Database,
  clock: Clock,
  resolve: NonNullable<TestHttpOptions['resolve']>,
): UseCases {
  const webhooks = {
    db,
    clock,
    secretKey: WEBHOOK_KEY,
    destinations: { resolve, ports: [], loopback: false },
  };
  const session = {
    value: { checkout_url: 'https://checkout.stripe.com/c/pay/cs_test_1', checkout_session_id: 'cs_test_1' },
    replayed: false,
  };
  return {
    readState: async (caller) => billingState(caller.row, clock.now()),
    startCheckout: async () => session,
    startTrialPack: async () => session,
    startPortal: async () => ({
      value: { portal_url: 'https://billing.stripe.com/p/session/1' },
      replayed: false,
    }),
    listTrialPackUsage: (accountId, input) => listUsage(db, accountId, input),
    listAudit: (accountId, input) => listAudit(db, accountId, input),
    webhooks: webhookUseCases(webhooks),
    once: (call, asked, work, read) =>
      once(webhooks, call, asked, (commit) => work(webhookUseCases(webhooks, commit)), read),
  };
}
