import { isDatabaseUnavailable } from './unavailable.ts';

export type GroupCommitOptions<Item, Result> = {
  /** Writes a group in one statement, and answers each in the order given. Nothing of it stays where it throws. */
  write(group: readonly Item[]): Promise<readonly Result[]>;
  /** How many groups may be under way at a time. */
  readonly atOnce: number;
  /** The most that one statement writes. */
  readonly most: number;
};

/**
 * Writes what many want to write at the same time in few statements. Whoever comes while nothing is under way is
 * written at once; what arrives meanwhile goes together with the next statement, so that there is no timer and no
 * delay at rest. Each answer comes after the commit of its own row. A group that the database refuses is repeated
 * one by one, so that what is wrong with one costs only that one.
 */
export function groupCommit<Item, Result>({
  write,
  atOnce,
  most,
}: GroupCommitOptions<Item, Result>): (item: Item) => Promise<Result> {
  type Waiting = { readonly item: Item; readonly answer: PromiseWithResolvers<Result> };
  const line: Waiting[] = [];
  let underWay = 0;

  const writeAll = async (group: readonly Waiting[]): Promise<void> => {
    const results = await write(group.map(({ item }) => item));
    if (results.length !== group.length)
      throw new Error(`${results.length} answers to ${group.length} items`);
    for (const [at, result] of results.entries()) group[at]?.answer.resolve(result);
  };
  const run = async (group: readonly Waiting[]): Promise<void> => {
    try {
      await writeAll(group);
    } catch (error) {
      if (group.length === 1 || isDatabaseUnavailable(error)) {
        for (const { answer } of group) answer.reject(error);
        return;
      }
      for (const one of group) await run([one]);
    }
  };
  let pumps = false;
  /** What is asked for in one go comes to one statement, the first included. */
  const pumpSoon = (): void => {
    if (pumps) return;
    pumps = true;
    queueMicrotask(() => {
      pumps = false;
      pump();
    });
  };
  const pump = (): void => {
    while (underWay < atOnce && line.length > 0) {
      underWay += 1;
      void run(line.splice(0, most)).finally(() => {
        underWay -= 1;
        pump();
      });
    }
  };
  return (item) => {
    const answer = Promise.withResolvers<Result>();
    line.push({ item, answer });
    pumpSoon();
    return answer.promise;
  };
}
