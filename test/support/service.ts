import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll } from 'vitest';

const MAIN = fileURLToPath(new URL('../../server/main.ts', import.meta.url));
const START_TIMEOUT_MS = 60_000;

export interface Service {
  readonly process: ChildProcess;
  /** What it printed so far, both streams together. */
  readonly output: () => string;
  readonly apiUrl: string;
  readonly stripeUrl: string;
  readonly apiKey: string;
  /** Ctrl-C; resolves with the exit code. */
  stop(): Promise<number | null>;
  kill(): Promise<void>;
}

/** Starts the service as `npm start` does, on free ports, and waits for its first screen. */
export async function startService(dataDir: string, env: Record<string, string> = {}): Promise<Service> {
  const child = spawnMain({ DATA_DIR: dataDir, PORT: '0', SANDBOX_PORT: '0', ...env });
  const output = collect(child);
  await untilTrue(() => {
    if (child.exitCode !== null) throw new Error(`the service ended with ${child.exitCode}:\n${output()}`);
    return output().includes('Ctrl-C stops everything');
  }, START_TIMEOUT_MS);
  const first = (pattern: RegExp): string => {
    const found = pattern.exec(output())?.[1];
    if (found === undefined) throw new Error(`no ${pattern} in:\n${output()}`);
    return found;
  };
  const ended = once(child, 'exit');
  return {
    process: child,
    output,
    apiUrl: first(/API {12}(http\S+)/),
    stripeUrl: first(/Console +(http\S+)\/console/),
    apiKey: first(/KEY=(ds_live_\S+)/),
    async stop() {
      child.kill('SIGINT');
      await ended;
      return child.exitCode;
    },
    async kill() {
      child.kill('SIGKILL');
      await ended;
    },
  };
}

/** Runs `server/main.ts` to its end, for starts that are refused. */
export async function runMain(env: Record<string, string>): Promise<{ code: number | null; output: string }> {
  const child = spawnMain(env);
  const output = collect(child);
  await once(child, 'close');
  return { code: child.exitCode, output: output() };
}

const running = new Set<ChildProcess>();
// What a test that failed, or was timed out, has left behind ends with its file.
afterAll(() => {
  for (const child of running) child.kill('SIGKILL');
});

/** Runs `server/main.ts` with this environment and nothing of the caller's. */
export function spawnMain(env: Record<string, string>): ChildProcess {
  // Nothing of the caller's own configuration, only what finds programs and temporary folders.
  const { PATH = '', HOME = '', TMPDIR = '/tmp' } = process.env;
  const child = spawn(process.execPath, [MAIN], {
    env: { PATH, HOME, TMPDIR, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  running.add(child);
  child.once('exit', () => running.delete(child));
  return child;
}

/** What a process has printed so far, both streams together. */
export function collect(child: ChildProcess): () => string {
  let text = '';
  for (const stream of [child.stdout, child.stderr])
    stream?.on('data', (chunk: Buffer) => (text += chunk.toString()));
  return () => text;
}

/** Polls until `condition` holds; throws after `timeoutMs`. */
export async function untilTrue(
  condition: () => boolean | Promise<boolean>,
  timeoutMs = 25_000,
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`not so after ${timeoutMs} ms: ${condition}`);
    await delay(25);
  }
}
