import { describe, expect, it } from 'vitest';
import { oneAtATime } from '../../server/billing/one-at-a-time.ts';

const deferred = () => {
  let resolve = () => {};
  const promise = new Promise<void>((done) => {
    resolve = done;
  });
  return { promise, resolve };
};

describe('oneAtATime', () => {
  it('runs equal keys one after the other, in order, also after a failure', async () => {
    const owner = {};
    const gate = deferred();
    const log: string[] = [];
    const first = oneAtATime(owner, 'a', 5_000, async () => {
      log.push('first begins');
      await gate.promise;
      log.push('first fails');
      throw new Error('first');
    });
    const second = oneAtATime(owner, 'a', 5_000, async () => log.push('second'));
    const elsewhere = oneAtATime(owner, 'b', 5_000, async () => log.push('other key'));
    const stranger = oneAtATime({}, 'a', 5_000, async () => log.push('other owner'));
    await Promise.all([elsewhere, stranger]);
    expect(log).toEqual(['first begins', 'other key', 'other owner']);
    gate.resolve();
    await expect(first).rejects.toThrow('first');
    await second;
    expect(log.slice(3)).toEqual(['first fails', 'second']);
  });

  it('answers 503 to whoever has waited too long, and never begins their work', async () => {
    const owner = {};
    const gate = deferred();
    const first = oneAtATime(owner, 'a', 5_000, () => gate.promise);
    let begun = false;
    const second = oneAtATime(owner, 'a', 20, async () => {
      begun = true;
    });
    await expect(second).rejects.toMatchObject({ status: 503, options: { retryAfterSeconds: 5 } });
    const third = oneAtATime(owner, 'a', 5_000, async () => 'third');
    gate.resolve();
    await first;
    expect(await third).toBe('third');
    expect(begun).toBe(false);
  });
});
