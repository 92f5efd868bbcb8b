import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';

const CHECKOUT = new URL('../../', import.meta.url);
const { scripts } = z
  .object({ scripts: z.object({ start: z.string() }) })
  .parse(JSON.parse(readFileSync(new URL('package.json', CHECKOUT), 'utf8')));

/** What `npm start` gives Node besides the file to run, so that what is measured runs as it does elsewhere. */
export const SWITCHES: readonly string[] = scripts.start
  .split(' ')
  .slice(1, -1)
  .map((word) => (word.startsWith('./') ? fileURLToPath(new URL(word, CHECKOUT)) : word));
