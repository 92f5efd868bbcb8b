import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import States from '../support/states.reporter.ts';
import { STATES } from '../support/states.ts';

const before = process.exitCode;
let said = '';
beforeEach(() => {
  said = '';
  process.exitCode = undefined;
  for (const how of ['log', 'error'] as const)
    vi.spyOn(console, how).mockImplementation((text: unknown) => {
      said += `${text}\n`;
    });
});
afterEach(() => {
  process.exitCode = before;
  vi.restoreAllMocks();
  vi.unstubAllEnvs();
});

/** The end of a run whose processes were in these states, each so often; answers its exit code. */
function endOfARun(...processes: Record<string, number>[]): typeof process.exitCode {
  const reporter = new States();
  reporter.onInit({
    provide(_, folder) {
      for (const [at, counts] of processes.entries())
        writeFileSync(join(String(folder), `${at}.json`), JSON.stringify(Object.entries(counts)));
    },
  });
  reporter.onTestRunEnd();
  return process.exitCode;
}

const once = (states: readonly string[]) => Object.fromEntries(states.map((state) => [state, 1]));
const [first = '', ...rest] = STATES;

it('are at least a hundred, and each is named once', () => {
  expect(STATES.length).toBeGreaterThanOrEqual(100);
  expect(new Set(STATES).size).toBe(STATES.length);
});

it('make a deep run red when one of them was never reached, and name it', () => {
  vi.stubEnv('STATES', 'all');
  expect(endOfARun(once(rest))).toBe(1);
  expect(said).toMatch(new RegExp(`Never reached, so never tested: ${first}\n`));
  expect(said).toContain(`${STATES.length - 1} of ${STATES.length} states were reached`);
});

it('make a deep run red when nothing was counted at all', () => {
  vi.stubEnv('STATES', 'all');
  expect(endOfARun()).toBe(1);
});

it('leave a deep run green when each was reached in one process or another, and say how often', () => {
  vi.stubEnv('STATES', 'all');
  expect(endOfARun({ ...once(rest) }, { [first]: 3 }, { [first]: 4 })).toBeUndefined();
  expect(said).toContain(`${'7'.padStart(9)}  ${first}\n`);
});

it('are told of in any other run, which stays as it is', () => {
  expect(endOfARun(once(rest))).toBeUndefined();
  expect(said).toContain(`${STATES.length - 1} of ${STATES.length} states were reached`);
  expect(said).toContain(`not in this run: ${first}\n`);
  said = '';
  expect(endOfARun(), 'a run of other suites').toBeUndefined();
  expect(said).toBe('');
});
