import { defineConfig } from 'vitest/config';

const project = (name: string, include: string[], globalSetup: string[] = []) => ({
  test: { name, include, globalSetup, testTimeout: 30_000, hookTimeout: 60_000 },
});

/** Three suites: `unit` needs nothing, `integration` a real PostgreSQL, `browser` a real Chromium as well. */
export default defineConfig({
  test: {
    maxWorkers: 2,
    projects: [
      project('unit', ['test/unit/**/*.test.ts', 'server/local-stripe/test/*.test.ts']),
      project('integration', ['test/integration/**/*.test.ts'], ['test/support/postgres.setup.ts']),
      project('convergence', ['test/convergence/**/*.test.ts'], ['test/support/postgres.setup.ts']),
      project('faults', ['test/faults/**/*.test.ts'], ['test/support/postgres.setup.ts']),
      project(
        'browser',
        ['test/browser/**/*.test.ts', 'server/local-stripe/test/browser/*.test.ts'],
        ['test/support/postgres.setup.ts'],
      ),
    ],
  },
});
