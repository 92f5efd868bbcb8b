import { access, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AUDIT_ACTIONS } from '../../shared/audit.ts';
import { runCli } from '../support/cli.ts';

/** Nothing listens there: whatever is refused below is refused by its words alone. */
const NOWHERE = { databaseUrl: 'postgres://u:p@127.0.0.1:9/billing', stripeUrl: 'http://127.0.0.1:9' };
const ACCOUNT = 'acc_01890a5d-ac96-774b-bcce-b302099a8057';

describe('a command that does not exist is named, whatever else is asked', () => {
  it.each([
    ['nonsense'],
    ['nonsense --help'],
    ['--help nonsense'],
    ['accounts nonsense --help'],
    ['keys issued --help'],
    ['audit expor'],
  ])('%s', async (line) => {
    const { code, out, err } = await runCli(NOWHERE, ...line.split(' '));
    expect([code, out]).toEqual([2, '']);
    expect(err).toMatch(/^Unknown command: [a-z ]+\n/);
    expect(err.split('\n')[0]).toBe(`Unknown command: ${line.replaceAll(/ ?--help ?/g, '')}`);
    expect(err).toContain('COMMAND --help shows how one is called.');
  });

  it.each([
    '--help',
    '-h',
    'accounts --help',
    '--help accounts',
    'accounts list --help',
    'keys issue x --help',
  ])('but help is given for %s', async (line) => {
    const { code, out, err } = await runCli(NOWHERE, ...line.split(' '));
    expect([code, err]).toEqual([0, '']);
    expect(out).toMatch(/^Usage: /);
  });
});

describe('a value that cannot be meant is refused, naming what can', () => {
  let directory: string;
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'driftstack-cli-calls-'));
  });
  afterAll(() => rm(directory, { recursive: true }));

  const audit = ['audit', 'export', ACCOUNT, '--output', 'FILE'];
  const issue = ['keys', 'issue', ACCOUNT];
  const cases: [string[], RegExp][] = [
    [[...audit, '--action', 'subscription.tier_change'], /--action .*subscription\.tier_changed, /],
    [[...audit, '--action', 'Invoice.paid'], /--action .*invoice\.paid, /],
    [[...audit, '--action', ''], /--action /],
    [[...audit, '--format', 'xml'], /--format must be one of csv, json/],
    [
      [...audit, '--since', '2026-06-01T00:00:00Z', '--until', '2026-05-01T00:00:00Z'],
      /--since must be before --until/,
    ],
    [[...audit, '--since', '2026-02-30T00:00:00Z'], /--since must be a moment in UTC/],
    [[...audit, '--format', 'csv', '--format', 'json'], /--format is given twice/],
    [['events', 'list', '--state', 'Dead'], /--state must be one of received, done, ignored, dead/],
    [['events', 'list', '--state', 'dead', '--state', 'done'], /--state is given twice/],
    [[...issue, '--scopes', 'read:biling'], /--scopes: read:biling is not one of /],
    [[...issue, '--expires-at', '2099'], /--expires-at must be a moment in UTC/],
    [[...issue, '--expires-at', '1/2/2099'], /--expires-at must be a moment in UTC/],
    [[...issue, '--expires-at', '2099-02-30T00:00:00Z'], /--expires-at must be a moment in UTC/],
    [[...issue, '--name', ''], /--name is empty/],
    [['stripe', 'setup', '--webhook-url', 'mailto:a@b.test'], /--webhook-url must be an http or https URL/],
    [['stripe', 'setup', '--portal-return-url', 'your.app:443'], /--portal-return-url must be/],
    [['openapi', '--write', 'a', '--check', 'b'], /--write or --check, not both/],
    [['accounts', 'list', '--emial', 'a@b.test'], /--emial/],
    [['accounts', 'list', 'all'], /unexpected word: all/],
  ];
  it.each(cases)('%j', async (args, pattern) => {
    const file = join(directory, 'audit.csv');
    const { code, out, err } = await runCli(NOWHERE, ...args.map((word) => (word === 'FILE' ? file : word)));
    expect([code, out]).toEqual([2, '']);
    expect(err.split('\n')[0]).toMatch(pattern);
    expect(err).toMatch(/^Usage: /m);
    await expect(access(file)).rejects.toThrow('ENOENT');
  });

  it('every action there is may be asked for', async () => {
    const { err } = await runCli(
      NOWHERE,
      ...audit.with(-1, join(directory, 'x')),
      '--action',
      'nothing.known',
    );
    for (const action of AUDIT_ACTIONS) expect(err).toContain(action);
  });
});
