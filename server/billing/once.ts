import { ProblemError } from '../../shared/errors.ts';
import type { Clock } from '../../shared/time.ts';
import type { Database, Tx } from '../database/connection.ts';
import { lockAccount } from '../database/locks.ts';
import { type SecretKeys, seal, tryUnseal } from '../webhooks/secrets.ts';
import type { Minted, MintingCall } from './deps.ts';
import {
  answered,
  type Claim,
  claim,
  claimOf,
  type Earlier,
  earlierAnswer,
  whileClaimed,
} from './idempotency.ts';

export type OnceDeps = SecretKeys & { readonly db: Database; readonly clock: Clock };

/** Runs the one transaction on its account in which a call ends. */
export type Commit = Database['transactionOn'];

/** Which call it is and what it asks for: together they are what a key stands for. */
export type Asked = { route: string; input: unknown };

/**
 * Does `work` once under the Idempotency-Key of the call. Work that calls nobody else ends in one transaction on its
 * account, whose result is the answer; committed by what `work` is given, that transaction also claims the key and
 * keeps the answer, so that all three happen or none, whenever we crash. A refusal keeps nothing. The
 * answer may hold a secret that is shown once, so it is kept encrypted, as endpoints' secrets are.
 */
export async function once<T extends object>(
  deps: OnceDeps,
  call: MintingCall,
  { route, input }: Asked,
  work: (commit: Commit) => Promise<T>,
  read: (answer: unknown) => T,
): Promise<Minted<T>> {
  const { db, clock } = deps;
  const claimed = claimOf(call, route, input);
  if (claimed === null) return { value: await work(db.transactionOn), replayed: false };
  const again = (earlier: Earlier): Minted<T> => ({
    value: read(open(deps, claimed, earlier)),
    replayed: true,
  });
  return await whileClaimed(claimed, async () => {
    const earlier = await earlierAnswer(db, claimed, clock.now());
    if (earlier) return again(earlier);
    const kept: unknown[] = [];
    try {
      const value = await work(keeping(deps, claimed, kept));
      if (!kept.includes(value)) throw new Error(`What ${route} answers is not what its transaction came to`);
      return { value, replayed: false };
    } catch (error) {
      // Another process was faster.
      if (error instanceof AnsweredBefore) return again(error.earlier);
      throw error;
    }
  });
}

class AnsweredBefore extends Error {
  override readonly name = 'AnsweredBefore';
  readonly earlier: Earlier;

  constructor(earlier: Earlier) {
    super('This call was answered before.');
    this.earlier = earlier;
  }
}

/** Transactions on an account that claim the key first and keep the answer last. */
function keeping(deps: OnceDeps, claimed: NonNullable<Claim>, kept: unknown[]): Commit {
  const { db, clock, secretKey } = deps;
  const within = async <R>(tx: Tx, fn: (tx: Tx) => Promise<R>): Promise<R> => {
    // Before the key, as minting locks them.
    await lockAccount(tx, claimed.accountId);
    const earlier = await claim(tx, claimed, clock.now());
    if (earlier) throw new AnsweredBefore(earlier);
    const value = await fn(tx);
    const sealed = seal(secretKey, nameOf(claimed), JSON.stringify(value)).toString('base64');
    await answered(tx, claimed, { sealed });
    kept.push(value);
    return value;
  };
  return (accountId, fn) => db.transactionOn(accountId, (tx) => within(tx, fn));
}

function open(keys: SecretKeys, claimed: NonNullable<Claim>, { sealed }: Earlier): unknown {
  const text = tryUnseal(keys, nameOf(claimed), Buffer.from(String(sealed), 'base64'));
  if (text !== null) return JSON.parse(text);
  throw new ProblemError(
    'conflict',
    'This call was carried out, but its answer cannot be read any more, because the key that it was kept under has been replaced. List your endpoints; a secret that you have not seen can be rotated.',
    { code: 'idempotency_answer_lost' },
  );
}

const nameOf = ({ accountId, key }: NonNullable<Claim>): string => `idempotency:${accountId}:${key}`;
