import { ProblemError } from '../../shared/errors.ts';
import { formatId } from '../../shared/ids.ts';
import { verifyChain } from '../audit/verify.ts';
import { verifyLedger } from '../credit/ledger.ts';
import type { Database } from '../database/connection.ts';
import { Account } from '../database/entities/account.ts';
import { accountNamed } from './account-word.ts';
import type { CommandContext, Given } from './command.ts';
import { withDatabase } from './database.ts';
import { ACCOUNT } from './words.ts';

const PAGE = 500;

/** `audit verify`: what `commands.ts` says of it. */
export async function auditVerify({ config, say, answer }: CommandContext, given: Given): Promise<void> {
  const word = given.optionalWord(ACCOUNT);
  const account = word === undefined ? null : accountNamed(word);
  const { checked, broken } = await withDatabase(config, async (db) =>
    verify(db, account === null ? null : await account(db)),
  );
  for (const { words } of broken) say(words);
  say(`Checked ${checked} ${checked === 1 ? 'account' : 'accounts'}: ${broken.length} faults.`);
  answer({ checked, broken: broken.map(({ words: _words, ...rest }) => rest) });
  if (broken.length > 0) throw new ProblemError('internal', 'The audit log or the ledger is not whole.');
}

type Broken = {
  account_id: string;
  what: 'audit_log' | 'credit_ledger';
  /** The first entry at fault; null where the entries are right and the balance beside them is not. */
  position: number | null;
  words: string;
};

async function verify(db: Database, only: string | null): Promise<{ checked: number; broken: Broken[] }> {
  const broken: Broken[] = [];
  let checked = 0;
  for await (const accountId of accounts(db, only)) {
    checked += 1;
    const position = await verifyChain(db, accountId);
    if (position === null) continue;
    const account_id = formatId('acc', accountId);
    const words = `${account_id}: the audit log is broken at entry ${position}: changed, taken out or put in.`;
    broken.push({ account_id, what: 'audit_log', position, words });
  }
  for (const fault of await verifyLedger(db, only)) {
    const account_id = formatId('acc', fault.accountId);
    const { position, balance, sumOfEntries, held, sumOfReservations } = fault;
    const where = position === null ? '' : `broken at entry ${position}; `;
    const words =
      `${account_id}: the credit ledger is ${where}balance ${balance}, sum of entries ${sumOfEntries}, ` +
      `held ${held}, sum of reservations ${sumOfReservations}.`;
    broken.push({ account_id, what: 'credit_ledger', position, words });
  }
  return { checked, broken };
}

async function* accounts(db: Database, only: string | null): AsyncGenerator<string> {
  if (only !== null) {
    if ((await db.orm.em.fork().count(Account, { id: only })) === 0)
      throw new ProblemError('not-found', 'There is no such account.');
    yield only;
    return;
  }
  for (let after: string | null = null; ; ) {
    const page: { id: string }[] = await db.orm.em
      .fork()
      .find(Account, after === null ? {} : { id: { $gt: after } }, {
        fields: ['id'],
        orderBy: { id: 'asc' },
        limit: PAGE,
        disableIdentityMap: true,
      });
    for (const { id } of page) yield id;
    const last = page.at(-1);
    if (!last || page.length < PAGE) return;
    after = last.id;
  }
}
