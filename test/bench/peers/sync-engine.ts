import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { bodyOf, listen, options } from '../servers/door.ts';

// Its build for `import` looks for `__dirname` when it migrates; the one for `require` has it.
const { runMigrations, StripeSync }: typeof import('@supabase/stripe-sync-engine') = createRequire(
  import.meta.url,
)('@supabase/stripe-sync-engine');

/** Supabase's stripe-sync-engine as its README sets it up, behind plain node:http. */
const { databaseUrl, poolMax, webhookSecret } = options();
// Without a logger it would keep a failure to itself.
const logger = { info: () => undefined, error: console.error };
await runMigrations({ databaseUrl, schema: 'stripe', logger });
const sync = new StripeSync({
  poolConfig: { connectionString: databaseUrl, max: poolMax },
  stripeSecretKey: 'sk_test_bench',
  stripeWebhookSecret: webhookSecret,
});

const server = createServer(async (request, response) => {
  try {
    const signature = request.headers['stripe-signature'];
    await sync.processWebhook(await bodyOf(request), typeof signature === 'string' ? signature : undefined);
    response.writeHead(200, { 'content-length': 2 }).end('{}');
  } catch (error) {
    console.error(error);
    response.writeHead(400, { 'content-length': 0 }).end();
  }
});
listen(server);
