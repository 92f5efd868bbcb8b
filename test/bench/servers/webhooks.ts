import { z } from 'zod';
import { connectDatabase } from '../../../server/database/connection.ts';
import { watchDue } from '../../../server/database/due.ts';
import { createLog } from '../../../server/http/log.ts';
import { startDispatcher } from '../../../server/webhooks/dispatch.ts';
import { createPoster } from '../../../server/webhooks/post.ts';
import { serve } from './serve.ts';

/** The part of a worker that delivers webhooks, on endpoints of this machine. */
const options = z
  .strictObject({ databaseUrl: z.string(), poolMax: z.int(), secretKey: z.string() })
  .parse(JSON.parse(process.argv[2] ?? ''));

const db = await connectDatabase({
  url: options.databaseUrl,
  poolMax: options.poolMax,
  applicationName: 'bench',
});
const log = createLog({ level: 'info' });
const poster = createPoster();
const dispatcher = startDispatcher({
  db,
  clock: { now: () => new Date() },
  log,
  secretKey: Buffer.from(options.secretKey, 'base64'),
  destinations: { resolve: async () => [], ports: [], loopback: true },
  post: poster.post,
});
const watch = watchDue({ db, clock: { now: () => new Date() }, log }, { endpoint: dispatcher.wake });
serve('http://127.0.0.1:0', async () => {
  await watch.close();
  await dispatcher.close();
  poster.close();
  await db.close();
});
