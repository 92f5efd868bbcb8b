import { randomBytes } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Config, ConfigError } from '../config.ts';

/**
 * The key that encrypts the secrets of customers' endpoints: the operator's, or null. A database of our own comes
 * with a key of its own, in a file beside it that only this user can read; throws a ConfigError where that cannot be
 * used.
 */
export async function webhookSecretKey({
  webhookSecretKey,
  database,
  dataDir,
}: Config): Promise<Buffer | null> {
  if (webhookSecretKey !== null || database.kind !== 'embedded') return webhookSecretKey;
  await mkdir(dataDir, { recursive: true, mode: 0o700 });
  const path = join(dataDir, 'webhook-secret-key');
  try {
    await writeFile(path, randomBytes(32).toString('base64'), { mode: 0o600, flag: 'wx' });
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
  }
  const text = await readFile(path, 'utf8').catch((cause: unknown) => {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new ConfigError([`${path} cannot be read (${why}): give this user the right to, or delete it`]);
  });
  const key = Buffer.from(text, 'base64');
  if (key.length !== 32) {
    throw new ConfigError([
      `${path} does not hold the 32 bytes it was made with: bring it back from a copy, or delete it and have the secrets of webhook endpoints rotated`,
    ]);
  }
  return key;
}
