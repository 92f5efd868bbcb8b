// Loaded before an entry (`node --import`), so that Node keeps what it makes of our files. In JavaScript, because one
// file of TypeScript read without the cache brings Node's own compiler into memory, and that stays there.
import { existsSync, lstatSync, mkdirSync, statSync } from 'node:fs';
import * as nodeModule from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** `npm ci` deletes it with all else there, so what earlier versions left does not pile up. */
const PARENT = fileURLToPath(new URL('../node_modules', import.meta.url));
const DIRECTORY = join(PARENT, '.cache/driftstack-billing');

/**
 * Ours alone: what lies there is run. Whoever starts the service in somebody else's checkout, such as root, leaves
 * nothing in it that its owner could not delete.
 *
 * @param {number} uid
 */
function isOurs(uid) {
  try {
    if (!existsSync(DIRECTORY) && statSync(PARENT).uid === uid) {
      mkdirSync(join(PARENT, '.cache'), { recursive: true });
      mkdirSync(DIRECTORY, { mode: 0o700 });
    }
    const found = lstatSync(DIRECTORY);
    return found.isDirectory() && found.uid === uid && (found.mode & 0o077) === 0;
  } catch {
    // There is no place for it, or somebody was quicker: the service starts more slowly, takes more memory, and works.
    return false;
  }
}

const uid = process.geteuid?.();
if (uid !== undefined && isOurs(uid)) nodeModule.enableCompileCache?.(DIRECTORY);

// Run by itself, as at the end of `npm ci`, it fills the cache, so that the first start is like all others. What the
// installation goes without, such as the local Stripe, is left out.
if (import.meta.main) {
  const READ = [
    ...['main', 'start', 'worker', 'welcome', 'http/log', 'notify/render', 'api/openapi', 'database/explain'],
    ...['cli', 'operator/account-commands', 'operator/stripe-commands', 'operator/explain-commands'],
    ...['operator/reconcile-commands', 'operator/event-commands', 'operator/audit-commands'],
    ...['operator/audit-export', 'operator/webhook-commands'],
  ];
  const LOCAL = existsSync(new URL('./local-stripe/', import.meta.url)) ? ['local'] : [];
  for (const file of [...READ, ...LOCAL]) await import(`./${file}.ts`);
}
