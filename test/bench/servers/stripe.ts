import { z } from 'zod';
import { startSandbox } from '../../../server/local-stripe/local-stripe.ts';
import { serve } from './serve.ts';

/** The local Stripe, with its state in a file as `npm start` has it. */
const { dataPath } = z.strictObject({ dataPath: z.string() }).parse(JSON.parse(process.argv[2] ?? ''));
const sandbox = await startSandbox({ port: 0, dataPath });
serve(sandbox.url, () => sandbox.close());
