import { randomFillSync } from 'node:crypto';
import type { Clock } from '../../shared/time.ts';
import { uuidv7 } from '../database/uuid.ts';

const BYTES_PER_ID = 10;
const POOL_BYTES = 400 * BYTES_PER_ID;

/** Makes `req_` and a uuid, in the order of time. Randomness is fetched for many at once: it costs by the call. */
export function requestIds({ now }: Clock): () => string {
  const pool = Buffer.alloc(POOL_BYTES);
  let next = POOL_BYTES;
  return () => {
    if (next === POOL_BYTES) {
      randomFillSync(pool);
      next = 0;
    }
    next += BYTES_PER_ID;
    return `req_${uuidv7(now(), pool.subarray(next - BYTES_PER_ID, next))}`;
  };
}
