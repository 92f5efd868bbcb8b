import type { AuditEntry as WireEntry } from '../../shared/audit.ts';
import type { Database } from '../database/connection.ts';
import { Account } from '../database/entities/account.ts';
import { AuditEntry } from '../database/entities/journal.ts';
import { type AuditFilter, matching, toWire } from './list.ts';

const PAGE = 500;

/** How far an export has come. */
export type Progress = { readonly written: number; readonly total: number };

export const EXPORT_FORMATS = ['csv', 'json'] as const;
export type ExportFormat = (typeof EXPORT_FORMATS)[number];

/**
 * The account's entries as text, oldest first, a part at a time, so that a log of any length takes the memory of
 * one page. Entries written after the start are not in it. `onProgress` hears of every page.
 */
export async function* exportAudit(
  db: Database,
  { accountId, filter, format }: { accountId: string; filter: AuditFilter; format: ExportFormat },
  onProgress: (progress: Progress) => void,
): AsyncGenerator<string, void, undefined> {
  const em = db.orm.em.fork();
  const { auditPosition: end } = await em.findOneOrFail(Account, { id: accountId });
  const selected = matching(accountId, filter);
  const total = await em.count(AuditEntry, { $and: [selected, { position: { $lte: end } }] });
  const { head, foot, line } = WRITERS[format];
  yield head;
  let written = 0;
  for (let after = 0; ; ) {
    const page = await em.find(
      AuditEntry,
      { $and: [selected, { position: { $gt: after, $lte: end } }] },
      { orderBy: { position: 'asc' }, limit: PAGE, disableIdentityMap: true },
    );
    if (page.length > 0)
      yield page.map((entry, index) => line(toWire(entry), written + index === 0)).join('');
    written += page.length;
    onProgress({ written, total });
    const last = page.at(-1);
    if (!last || page.length < PAGE) break;
    after = last.position;
  }
  yield foot;
}

type Writer = { head: string; foot: string; line(entry: WireEntry, isFirst: boolean): string };

const COLUMNS = [
  'id',
  'account_id',
  'actor_type',
  'actor_account_id',
  'actor_key_id',
  'action',
  'target_resource_id',
  'payload',
  'ip_address',
  'user_agent',
  'timestamp',
] as const satisfies readonly (keyof WireEntry)[];

const WRITERS: Readonly<Record<ExportFormat, Writer>> = {
  csv: {
    head: `${COLUMNS.join(',')}\r\n`,
    foot: '',
    line: (entry) => `${COLUMNS.map((column) => cell(entry[column])).join(',')}\r\n`,
  },
  json: {
    head: '[',
    foot: '\n]\n',
    line: (entry, isFirst) => `${isFirst ? '' : ','}\n${JSON.stringify(entry)}`,
  },
};

/** RFC 4180. The payload is JSON in its cell; null is empty. */
function cell(value: unknown): string {
  const text = value === null ? '' : typeof value === 'string' ? value : JSON.stringify(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
