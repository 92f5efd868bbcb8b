import { fork } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { SWITCHES } from './switches.ts';

export type Memory = z.output<typeof memorySchema>;

/** A server in a process of its own, so that it and what measures it do not share an event loop or a heap. */
export type Child = {
  readonly url: string;
  /** Bytes of live heap and of all memory after a full collection, and the most it has held so far. */
  memory(): Promise<Memory>;
  /** Milliseconds of processor time the process has used so far, all its threads together. */
  cpuMs(): Promise<number>;
  /** Asks it to end, and returns once it has. */
  close(): Promise<void>;
};

export type StartChild = (script: string, options: object) => Promise<Child>;

const memorySchema = z.strictObject({
  heapBytes: z.number(),
  rssBytes: z.number(),
  peakRssBytes: z.number(),
});
const messageSchema = z.union([
  z.strictObject({ url: z.string() }),
  z.strictObject({ memory: memorySchema }),
  z.strictObject({ cpuMs: z.number() }),
]);

/**
 * Starts `servers/<script>.ts`, or a peer by `peers/<script>`, with its options and returns once it listens. Its output
 * goes to `logDir`.
 */
export function childStarter(logDir: string): StartChild {
  let started = 0;
  return async (script, options) => {
    const logPath = join(logDir, `${script.replace('/', '-')}-${++started}.log`);
    const file = script.startsWith('peers/') ? `./${script}.ts` : `./servers/${script}.ts`;
    const output = openSync(logPath, 'w', 0o600);
    const child = fork(new URL(file, import.meta.url), [JSON.stringify(options)], {
      execArgv: ['--expose-gc', ...(script === 'product' ? SWITCHES : []), ...profiling(script)],
      stdio: ['ignore', output, output, 'ipc'],
      env: { ...process.env, NODE_ENV: 'production' },
    });
    closeSync(output);
    const ended = once(child, 'exit');
    const failed = ended.then((): never => {
      throw new Error(`${script} ended:\n${readFileSync(logPath, 'utf8').slice(-4_000)}`);
    });
    // Whoever waits for a message hears of it; at other times the next request shows it.
    failed.catch(() => undefined);
    const message = async () =>
      messageSchema.parse((await Promise.race([once(child, 'message'), failed]))[0]);
    const ready = await message();
    if (!('url' in ready)) throw new Error(`${script} answered before it was ready`);
    return {
      url: ready.url,
      async memory() {
        child.send('memory');
        const answer = await message();
        if (!('memory' in answer)) throw new Error(`${script} did not answer with its memory`);
        return answer.memory;
      },
      async cpuMs() {
        child.send('cpu');
        const answer = await message();
        if (!('cpuMs' in answer)) throw new Error(`${script} did not answer with its processor time`);
        return answer.cpuMs;
      },
      async close() {
        if (child.connected) child.disconnect();
        await ended;
      },
    };
  };
}

/** `BENCH_PROFILE=<directory>` leaves a CPU profile of every process there. */
function profiling(script: string): string[] {
  const directory = process.env['BENCH_PROFILE'];
  return directory
    ? [
        '--cpu-prof',
        `--cpu-prof-dir=${directory}`,
        `--cpu-prof-name=${script.replace('/', '-')}-${Date.now()}.cpuprofile`,
      ]
    : [];
}
