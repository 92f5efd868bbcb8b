import { execFile } from 'node:child_process';
import { expect, inject, it } from 'vitest';

/** One story of the convergence suite, in a run of its own. */
function run(env: Record<string, string>): Promise<{ code: unknown; output: string }> {
  const args = ['run', '--project', 'convergence', 'test/convergence/surplus.test.ts'];
  return new Promise((resolve) => {
    execFile(
      process.execPath,
      ['node_modules/vitest/vitest.mjs', ...args, '-t', 'the first is paused: both stay'],
      { env: { PATH: process.env['PATH'], TEST_DATABASE_URL: inject('adminUrl'), NO_COLOR: '1', ...env } },
      (error, stdout, stderr) => resolve({ code: error?.code ?? 0, output: stdout + stderr }),
    );
  });
}

it('a run of a suite ends red by the states that it never reached, if all of them are asked for', async () => {
  const deep = await run({ STATES: 'all' });
  expect(deep.output).toMatch(/ 1 {2}one of two is paused\n/);
  expect(deep.output).toMatch(/ 0 {2}three subscriptions live\n/);
  expect(deep.output).toContain('Never reached, so never tested: ');
  expect(deep.code).toBe(1);
  const usual = await run({});
  expect(usual.output).toMatch(/\d+ of \d+ states were reached/);
  expect(usual.code).toBe(0);
}, 120_000);
