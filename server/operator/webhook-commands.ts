import { ProblemError } from '../../shared/errors.ts';
import { formatId } from '../../shared/ids.ts';
import { reencryptSecrets } from '../webhooks/reencrypt.ts';
import { type CommandContext, UsageError } from './command.ts';
import { withDatabase } from './database.ts';

/** `webhooks reencrypt`: what `commands.ts` says of it. */
export async function webhooksReencrypt({ config, now, say, answer }: CommandContext): Promise<void> {
  const { webhookSecretKey: secretKey, oldWebhookSecretKeys: oldSecretKeys } = config;
  if (secretKey === null)
    throw new UsageError('WEBHOOK_SECRET_KEY must hold the new key, and behind it the old ones');
  const { checked, changed, unreadable } = await withDatabase(config, (db) =>
    reencryptSecrets(db, { secretKey, oldSecretKeys }, now()),
  );
  const ids = unreadable.map((id) => formatId('whk', id));
  for (const id of ids) say(`${id} is under a key that WEBHOOK_SECRET_KEY does not hold.`);
  say(`Checked ${checked} endpoints: ${changed} encrypted anew, ${ids.length} cannot be read.`);
  answer({ checked, changed, unreadable: ids });
  if (ids.length > 0)
    throw new ProblemError('internal', 'Some secrets cannot be read. Keep the old keys and name them all.');
}
