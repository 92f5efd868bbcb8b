import type { Tx } from '../database/connection.ts';
import { type Draft, keyOf, type MailDraft } from './drafts.ts';
import { type Known, lookUp } from './look-up.ts';
import { placed } from './place.ts';
import { writeRows } from './rows.ts';

/**
 * Writes down facts of one or several accounts, each once: in the audit log, in the feed and on its way to the
 * customer's endpoints, and in the outbox. Answers those that were new; what was known, switched off or named
 * twice is left out, and the first of a name counts. Two statements whatever the number, one where nothing is new.
 *
 * The caller has locked the accounts (`holdAccount`), so logs and feeds have no gaps and one end, and a reader who
 * has seen number 7 has seen 6. Paused endpoints get theirs when they are active again.
 */
export async function writeDown(tx: Tx, drafts: readonly Draft[]): Promise<ReadonlySet<Draft>> {
  if (drafts.length === 0) return new Set();
  const known = await lookUp(tx, drafts);
  const fresh = unknown(drafts, known);
  if (fresh.length === 0) return new Set();
  const rows = placed(fresh, known.accounts);
  const mailIds = new Set(await writeRows(tx, rows));
  const keys = new Set(
    rows.mails.flatMap(({ id, natural_key }) => (id && mailIds.has(id) ? natural_key : [])),
  );
  return new Set(fresh.filter((draft) => draft.kind !== 'mail' || keys.has(draft.naturalKey)));
}

function unknown(drafts: readonly Draft[], { keys, accounts }: Known): Draft[] {
  const seen = { audit: new Set(keys.audit), event: new Set(keys.event), mail: new Set(keys.mail) };
  return drafts.filter((draft) => {
    const key = keyOf(draft);
    if (seen[draft.kind].has(key)) return false;
    if (draft.kind === 'mail' && isSwitchedOff(draft, accounts)) return false;
    seen[draft.kind].add(key);
    return true;
  });
}

function isSwitchedOff({ accountId, switchedBy }: MailDraft, accounts: Known['accounts']): boolean {
  return switchedBy !== null && accounts.get(accountId)?.[switchedBy] === false;
}
