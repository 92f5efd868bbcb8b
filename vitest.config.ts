import { defineConfig } from 'vitest/config';

const project = (name: string, include: string[], globalSetup: string[] = [], setupFiles: string[] = []) => ({
  test: { name, include, globalSetup, setupFiles, testTimeout: 30_000, hookTimeout: 60_000, expect: POLLED },
});

/** A deadline and not a length: what is polled for is told as soon as it is so. One second is less than a busy machine may take. */
const POLLED = { poll: { timeout: 15_000, interval: 25 } };

/** Counts the rare states that a suite goes through; the reporter sums them. */
const COUNTED = ['test/support/states.setup.ts'];

/** Three suites: `unit` needs nothing, `integration` a real PostgreSQL, `browser` a real Chromium as well. */
export default defineConfig({
  test: {
    maxWorkers: 2,
    reporters: ['default', './test/support/states.reporter.ts'],
    projects: [
      project('unit', ['test/unit/**/*.test.ts', 'server/local-stripe/test/*.test.ts']),
      project('integration', ['test/integration/**/*.test.ts'], ['test/support/postgres.setup.ts'], COUNTED),
      project('convergence', ['test/convergence/**/*.test.ts'], ['test/support/postgres.setup.ts'], COUNTED),
      project('faults', ['test/faults/**/*.test.ts'], ['test/support/postgres.setup.ts'], COUNTED),
      project(
        'browser',
        ['test/browser/**/*.test.ts', 'server/local-stripe/test/browser/*.test.ts'],
        ['test/support/postgres.setup.ts'],
      ),
    ],
  },
});
