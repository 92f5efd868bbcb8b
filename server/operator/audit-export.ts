import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { AUDIT_ACTIONS, auditListInput } from '../../shared/audit.ts';
import { ProblemError } from '../../shared/errors.ts';
import { EXPORT_FORMATS, exportAudit, type Progress } from '../audit/export.ts';
import type { AuditFilter } from '../audit/list.ts';
import { Account } from '../database/entities/account.ts';
import { accountNamed } from './account-word.ts';
import { type CommandContext, type Given, UsageError } from './command.ts';
import { withDatabase } from './database.ts';
import { ACCOUNT } from './words.ts';

/** `audit export`: what `commands.ts` says of it. */
export async function auditExport({ config, say, answer }: CommandContext, given: Given): Promise<void> {
  const account = accountNamed(given.word(ACCOUNT));
  const output = given.required('output');
  const format = EXPORT_FORMATS.find((one) => one === (given.option('format') ?? 'csv'));
  if (format === undefined) throw new UsageError(`--format must be one of ${EXPORT_FORMATS.join(', ')}`);
  const filter = readFilter(given);
  const written = await withDatabase(config, async (db) => {
    const accountId = await account(db);
    if ((await db.orm.em.fork().count(Account, { id: accountId })) === 0)
      throw new ProblemError('not-found', 'There is no such account.');
    let last: Progress = { written: 0, total: 0 };
    const parts = exportAudit(db, { accountId, filter, format }, (progress) => {
      last = progress;
      if (progress.written < progress.total) say(`${progress.written} of ${progress.total} entries`);
    });
    await writeTo(output, parts);
    return last.written;
  });
  say(`Wrote ${written} entries to ${output}.`);
  answer({ entries: written, file: output, format });
}

function readFilter(given: Given): AuditFilter {
  const asked = Object.fromEntries(
    ['action', 'since', 'until'].flatMap((name) => {
      const value = given.option(name);
      return value === undefined ? [] : [[name, value]];
    }),
  );
  const action = given.option('action');
  // Of an action that nobody writes an empty file would be made, as if nothing had happened.
  if (action !== undefined && !AUDIT_ACTIONS.some((known) => known === action))
    throw new UsageError(`--action must be one of ${AUDIT_ACTIONS.join(', ')}`);
  const parsed = auditListInput.safeParse(asked);
  if (parsed.success) {
    const { since, until } = parsed.data;
    if (since !== undefined && until !== undefined && Date.parse(since) >= Date.parse(until))
      throw new UsageError('--since must be before --until');
    return parsed.data;
  }
  throw new UsageError(
    parsed.error.issues.map(({ path, message }) => `--${path.join('.')} ${message}`).join('; '),
  );
}

/** A file that exists is not written over: the log of another day may be in it. */
async function writeTo(path: string, parts: AsyncIterable<string>): Promise<void> {
  const file = createWriteStream(path, { flags: 'wx', mode: 0o600 });
  try {
    await once(file, 'open');
    for await (const part of parts) if (!file.write(part)) await once(file, 'drain');
    file.end();
    await once(file, 'finish');
  } catch (error) {
    file.destroy();
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST')
      throw new UsageError(`${path} exists; name a new file`);
    throw error;
  }
}
