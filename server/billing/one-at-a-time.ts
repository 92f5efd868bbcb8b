import { ProblemError } from '../../shared/errors.ts';
import { inTime } from '../database/in-time.ts';

/** The last in each queue, by whom the queues belong to, so that two services in one process stay apart. */
const queues = new WeakMap<object, Map<string, Promise<unknown>>>();

/**
 * Runs `work` when everything begun before under the same key has ended, so that equal calls within one
 * process do not race each other to Stripe. Between processes the database decides. Whoever has no answer
 * after `patienceMs` gets 503; work of theirs that has not begun is never begun.
 */
export async function oneAtATime<T>(
  owner: object,
  key: string,
  patienceMs: number,
  work: () => Promise<T>,
): Promise<T> {
  const queue = queues.get(owner) ?? new Map<string, Promise<unknown>>();
  queues.set(owner, queue);
  let givenUp = false;
  const mine = (queue.get(key) ?? Promise.resolve()).then(() => {
    if (givenUp) throw tooBusy();
    return work();
  });
  // The next in the queue waits for our end, however we end.
  const tail = mine.then(
    () => undefined,
    () => undefined,
  );
  queue.set(key, tail);
  void tail.then(() => {
    if (queue.get(key) === tail) queue.delete(key);
  });

  return await inTime(mine, patienceMs, () => {
    givenUp = true;
    return tooBusy();
  });
}

const tooBusy = () =>
  new ProblemError('internal', 'This account is busy with other calls. Please try again shortly.', {
    status: 503,
    retryAfterSeconds: 5,
  });
