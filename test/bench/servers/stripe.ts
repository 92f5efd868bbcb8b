import { z } from 'zod';
import { startLocalStripe } from '../../../server/local-stripe/local-stripe.ts';
import { serve } from './serve.ts';

/** The local Stripe, with its state in a file as `npm start` has it. */
const { dataPath } = z.strictObject({ dataPath: z.string() }).parse(JSON.parse(process.argv[2] ?? ''));
const localStripe = await startLocalStripe({ port: 0, dataPath });
serve(localStripe.url, () => localStripe.close());
