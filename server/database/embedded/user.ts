import { execFileSync } from 'node:child_process';
import { statSync } from 'node:fs';
import { MendableError } from '../mendable.ts';

/** What `spawn` needs to run PostgreSQL as somebody else; empty when it runs as we do. */
export type RunAs = { uid: number; gid: number } | Record<never, never>;

/**
 * Says as whom PostgreSQL must run: as ourselves, unless we are root, which it refuses. Then as the owner of
 * an existing cluster (the user who first started it), else as `nobody`.
 */
export const chooseUser = (clusterDir: string): RunAs => {
  if (process.getuid?.() !== 0) return {};
  const cluster = statSync(clusterDir, { throwIfNoEntry: false });
  if (cluster !== undefined && cluster.uid !== 0) return { uid: cluster.uid, gid: cluster.gid };
  return { uid: lookUp('-u'), gid: lookUp('-g') };
};

const lookUp = (flag: '-u' | '-g'): number => {
  try {
    return Number.parseInt(execFileSync('id', [flag, 'nobody'], { encoding: 'utf8', stdio: 'pipe' }), 10);
  } catch (cause) {
    throw new MendableError(
      'PostgreSQL refuses to run as root, and this machine has no user "nobody" to run it as. ' +
        'Start as an ordinary user, or set DATABASE_URL.',
      { cause },
    );
  }
};
