import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { describe, expect, it, onTestFinished } from 'vitest';

const MAIN = new URL('../main.ts', import.meta.url).pathname;
const BIN = new URL('../bin.js', import.meta.url).pathname;

/** Runs `npm run local-stripe` without npm. */
function run(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
  entry: readonly string[] = [MAIN],
) {
  const child = spawn(process.execPath, [...entry, ...args], { env: { ...process.env, ...env } });
  onTestFinished(() => void child.kill('SIGKILL'));
  const output = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8');
    child[name].on('data', (chunk: string) => {
      output[name] += chunk;
    });
  }
  return { child, output, over: once(child, 'exit').then(([code]) => code) };
}

describe('the local Stripe by itself', () => {
  it.each(['SIGINT', 'SIGTERM'] as const)('says where everything is, and %s ends it', async (signal) => {
    const { child, output, over } = run(['--port', '0']);
    await once(child.stdout, 'data');
    const url = /answers on (http:\/\/127\.0\.0\.1:\d+)/.exec(output.stdout)?.[1] ?? '';
    for (const path of ['/console', '/mailbox', '/_sandbox']) {
      expect(output.stdout).toContain(`${url}${path}`);
      expect((await fetch(`${url}${path}`)).status).toBe(200);
    }
    child.kill(signal);
    expect(await over).toBe(0);
  });

  it('says so when its port is taken', async () => {
    const { child, output } = run(['--port', '0']);
    await once(child.stdout, 'data');
    const port = /127\.0\.0\.1:(\d+)/.exec(output.stdout)?.[1] ?? '';
    const second = run(['--port', port]);
    expect(await second.over).toBe(1);
    expect(second.output.stderr).toContain(`Port ${port} is taken`);
  });

  it.each(['sk_live_1', 'rk_live_1'])('does not start next to the live key %s', async (key) => {
    const { output, over } = run(['--port', '0'], { STRIPE_SECRET_KEY: key });
    expect(await over).toBe(1);
    expect(output.stderr).toContain('live key');
  });

  it.each([
    [['--port', '99999'], 'not a port'],
    [['--colour'], 'colour'],
  ])('refuses %s and shows how it is used', async (args, words) => {
    const { output, over } = run(args);
    expect(await over).toBe(1);
    expect(output.stderr).toContain(words);
    expect(output.stderr).toContain('Usage: local-stripe');
  });

  it('is what npx starts in a checkout', async () => {
    const { child, output, over } = run(['--port', '0'], {}, [BIN]);
    await once(child.stdout, 'data');
    expect(output.stdout).toMatch(/^The local Stripe answers on http:/);
    child.kill('SIGINT');
    expect(await over).toBe(0);
  });

  it.each(['20.20.2', '22.12.0'])('says that Node %s is too old', async (node) => {
    const pretend = `data:text/javascript,Object.defineProperty(process,'versions',{value:{node:'${node}'}})`;
    const { output, over } = run([], {}, ['--import', pretend, BIN]);
    expect(await over).toBe(1);
    expect(output.stderr).toBe(
      `The local Stripe needs Node 22.13 or newer, for its SQLite; this is ${node}.\n`,
    );
  });
});
