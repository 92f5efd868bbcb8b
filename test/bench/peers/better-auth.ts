import { createServer } from 'node:http';
import { stripe } from '@better-auth/stripe';
import { betterAuth } from 'better-auth';
import { getMigrations } from 'better-auth/db/migration';
import { toNodeHandler } from 'better-auth/node';
import pg from 'pg';
import Stripe from 'stripe';
import { listen, options } from '../servers/door.ts';

/** better-auth with its Stripe plugin as its documentation sets it up, behind plain node:http. */
const { databaseUrl, poolMax, webhookSecret, priceId, subscriptions } = options();
const pool = new pg.Pool({ connectionString: databaseUrl, max: poolMax });
const auth = betterAuth({
  baseURL: 'http://127.0.0.1',
  secret: 'a secret of the benchmark, 32 characters or more',
  database: pool,
  telemetry: { enabled: false },
  rateLimit: { enabled: false },
  plugins: [
    stripe({
      stripeClient: new Stripe('sk_test_bench'),
      stripeWebhookSecret: webhookSecret,
      createCustomerOnSignUp: true,
      subscription: { enabled: true, plans: [{ name: 'api_builder', priceId }] },
    }),
  ],
});
await (await getMigrations(auth.options)).runMigrations();
// It updates rows that its own checkout has made before.
await pool.query(
  `insert into subscription (id, plan, "referenceId", "stripeCustomerId", "stripeSubscriptionId", status)
   select id, 'api_builder', id, customer, id, 'incomplete' from unnest($1::text[], $2::text[]) as s (id, customer)`,
  [subscriptions.map(({ id }) => id), subscriptions.map(({ customer }) => customer)],
);
const answer = toNodeHandler(auth);
listen(
  createServer((request, response) => void answer(request, response)),
  () => pool.end(),
);
