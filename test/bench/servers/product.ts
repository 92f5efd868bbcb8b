import { z } from 'zod';
import { createApp } from '../../../server/app.ts';
import { parseAllowlist } from '../../../server/billing/redirects.ts';
import { connectDatabase } from '../../../server/database/connection.ts';
import { ROLES } from '../../../server/environment.ts';
import { collectEarly } from '../../../server/heap.ts';
import { createLog } from '../../../server/http/log.ts';
import { connectStripe } from '../../../server/stripe/api/gateway.ts';
import { callsPerSecond } from '../../../server/stripe/api/limiter.ts';
import { serve } from './serve.ts';

/** The real service, put together as `npm start` does, with limits that never refuse. */
const options = z
  .strictObject({
    databaseUrl: z.string(),
    poolMax: z.int(),
    roles: z.array(z.enum(ROLES)),
    stripeUrl: z.string(),
    webhookSecret: z.string(),
    /** `STRIPE_READS_PER_SECOND`; left out: as many as there are. */
    readsPerSecond: z.int().optional(),
    /** Where mails go by Resend's API; left out: none are sent. */
    mailUrl: z.string().optional(),
  })
  .parse(JSON.parse(process.argv[2] ?? ''));

// Thousands of calls a second by a few accounts would be refused; the bucket is taken from all the same.
const UNLIMITED = { capacity: 1e9, refillPerSecond: 1e9 };

const log = createLog({ level: 'info' });
const db = await connectDatabase({
  url: options.databaseUrl,
  poolMax: options.poolMax,
  applicationName: 'bench',
});
const app = await createApp({
  db,
  log,
  gateway: connectStripe({
    secretKey: 'sk_test_bench',
    apiBase: options.stripeUrl,
    ...(options.readsPerSecond !== undefined && { limiter: callsPerSecond(options.readsPerSecond) }),
  }),
  clock: { now: () => new Date() },
  roles: new Set(options.roles),
  livemode: false,
  webhookSecrets: () => [options.webhookSecret],
  redirects: parseAllowlist(['https://your.app']),
  defaults: {
    checkoutSuccessUrl: 'https://your.app/success',
    checkoutCancelUrl: 'https://your.app/cancel',
    portalReturnUrl: 'https://your.app/account',
  },
  linkOrigins: [],
  email:
    options.mailUrl === undefined ? null : { kind: 'resend', apiKey: 're_bench', baseUrl: options.mailUrl },
  emailFrom: 'bench@example.test',
  internalApiToken: null,
  console: false,
  customerWebhooks: { secretKey: null, ports: [], loopback: false },
  limits: { global: { free: UNLIMITED, api_builder: UNLIMITED }, minting: UNLIMITED, failures: UNLIMITED },
});
const port = await app.listen(0, '127.0.0.1');
collectEarly();
serve(`http://127.0.0.1:${port}`, async () => {
  await app.close();
  await db.close();
});
