import { mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { append } from '../../server/audit/append.ts';
import { type ExportFormat, exportAudit } from '../../server/audit/export.ts';
import type { AuditFilter } from '../../server/audit/list.ts';
import { auditEntrySchema } from '../../shared/audit.ts';
import { formatId } from '../../shared/ids.ts';
import { runCli } from '../support/cli.ts';
import { startHttp, type TestHttp } from '../support/http.ts';

const START = new Date('2026-05-01T00:00:00Z');
const ENTRIES = 1_200;

let http: TestHttp;
let accountId: string;
let key: string;

beforeAll(async () => {
  http = await startHttp();
  ({ accountId, key } = await http.openAccount());
  await http.db.transaction(async (tx) => {
    for (let minute = 0; minute < ENTRIES; minute += 1) {
      await append(tx, {
        accountId,
        action: minute % 3 === 0 ? 'invoice.paid' : 'portal_session.started',
        targetResourceId: null,
        payload: { minute, note: 'a, "b"\r\nc' },
        actor: { type: 'system' },
        dedupeKey: `export-${minute}`,
        now: new Date(START.getTime() + minute * 60_000),
      });
    }
  });
}, 120_000);
afterAll(() => http?.close());

async function written(format: ExportFormat, filter: AuditFilter = {}) {
  const progress: string[] = [];
  let text = '';
  const parts = exportAudit(http.db, { accountId, filter, format }, ({ written: done, total }) =>
    progress.push(`${done}/${total}`),
  );
  for await (const part of parts) text += part;
  return { text, progress };
}

const first = '2026-05-01T01:00:00Z';
const last = '2026-05-01T02:00:00Z';

test('the log is read by time: from `since` on and before `until`, together with an action, page by page', async () => {
  const minutes: unknown[] = [];
  for (let cursor: string | null = null; ; ) {
    const query = `since=${first}&until=${last}&action=invoice.paid&limit=7${cursor === null ? '' : `&cursor=${cursor}`}`;
    const answer = await http.call(`/v1/account/audit-log?${query}`, { key });
    // The answer of this route, whose schema other tests check.
    const page = (await answer.json()) as {
      data: { payload: { minute: number } }[];
      next_cursor: string | null;
    };
    minutes.push(...page.data.map(({ payload }) => payload.minute));
    cursor = page.next_cursor;
    if (cursor === null) break;
  }
  expect(minutes).toEqual(Array.from({ length: 20 }, (_, at) => 117 - 3 * at));
});

test.each(['yesterday', '2026-05-01', '2026-13-01T00:00:00Z', '2026-05-01T00:00:00+02:00'])(
  'a moment such as %s is refused, naming the parameter',
  async (moment) => {
    for (const name of ['since', 'until']) {
      const answer = await http.call(`/v1/account/audit-log?${name}=${encodeURIComponent(moment)}`, { key });
      expect(answer.status).toBe(400);
      expect(await answer.json()).toMatchObject({ errors: [{ field: name }] });
    }
  },
);

test('an export as JSON holds every entry, oldest first, and says how far it is', async () => {
  const { text, progress } = await written('json');
  const entries: unknown = JSON.parse(text);
  expect(auditEntrySchema.array().parse(entries)).toHaveLength(ENTRIES + 2);
  expect(progress).toEqual(['500/1202', '1000/1202', '1202/1202']);
});

test('an export as CSV keeps commas, quotes and line breaks in their cells', async () => {
  const { text } = await written('csv', { since: first, until: '2026-05-01T01:01:00Z' });
  const [head, ...lines] = text.split(/\r\n(?=[0-9a-f]{8}-|$)/);
  expect(head).toBe(
    'id,account_id,actor_type,actor_account_id,actor_key_id,action,target_resource_id,payload,ip_address,user_agent,timestamp',
  );
  expect(lines).toHaveLength(2);
  expect(lines[0]).toMatch(
    new RegExp(
      `^[0-9a-f-]{36},acc_${accountId},system,,,invoice.paid,,"\\{.*""minute"":60.*\\}",,,${first}$`,
    ),
  );
});

test('an export of nothing is empty and whole', async () => {
  expect(JSON.parse((await written('json', { action: 'account.never' })).text)).toEqual([]);
});

test('an export does not grow while entries are added', async () => {
  const parts = exportAudit(http.db, { accountId, filter: {}, format: 'json' }, () => undefined);
  let text = String((await parts.next()).value);
  await http.db.transaction((tx) =>
    append(tx, {
      accountId,
      action: 'invoice.paid',
      targetResourceId: null,
      payload: {},
      actor: { type: 'system' },
      dedupeKey: 'export-late',
      now: new Date(),
    }),
  );
  for await (const part of parts) text += part;
  expect(JSON.parse(text)).toHaveLength(ENTRIES + 2);
});

test('the command writes a new file that only its owner can read, and overwrites none', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'driftstack-export-'));
  const output = join(directory, 'audit.csv');
  try {
    const words = [
      'audit',
      'export',
      formatId('acc', accountId),
      '--output',
      output,
      '--action',
      'invoice.paid',
    ];
    const run = (...args: string[]) =>
      runCli({ databaseUrl: http.db.url, stripeUrl: 'http://127.0.0.1:9' }, ...args);
    const done = await run(...words);
    expect(done).toMatchObject({ code: 0, out: expect.stringMatching(/^Wrote \d+ entries to/m) });
    expect((await readFile(output, 'utf8')).split('\r\n')[0]).toMatch(/^id,account_id,/);
    expect((await stat(output)).mode & 0o777).toBe(0o600);
    expect(await run(...words)).toMatchObject({ code: 2, err: expect.stringContaining('exists') });
    expect(await run(...words.slice(0, 4), `${output}2`, '--since', 'noon')).toMatchObject({
      code: 2,
      err: expect.stringContaining('--since must be a moment'),
    });
  } finally {
    await rm(directory, { recursive: true });
  }
});
