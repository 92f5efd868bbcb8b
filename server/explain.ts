import { ProblemError } from '../shared/errors.ts';
import { type Config, ConfigError, embeddedDataDir } from './config.ts';
import { MendableError } from './database/mendable.ts';

/**
 * What a person reads of an error that ended a start or a command: what can be mended in a sentence that says
 * how, one line for each mistake; anything else is a defect, of which LOG_LEVEL=debug shows the stack. `config`
 * is null where the environment could not be read. What knows the database's errors is loaded only for them.
 */
export async function explain(error: unknown, config: Config | null): Promise<string[]> {
  if (error instanceof ConfigError) return [...error.mistakes];
  if (isForPeople(error)) return [error.message];
  const file = explainFileError(error);
  if (file !== null) return [file];
  const { explainDatabaseError } = await import('./database/explain.ts');
  const reason = explainDatabaseError(error);
  if (reason !== null) return [databaseSentence(reason, config)];
  const { explainDefect, inOneLine } = await import('./database/describe-error.ts');
  if (config?.logLevel === 'debug' || config?.logLevel === 'trace') return [explainDefect(error)];
  return [
    `Something went wrong that we did not foresee: ${inOneLine(error)}`,
    'With LOG_LEVEL=debug it is shown where; please report it with that.',
  ];
}

function isForPeople(error: unknown): error is Error {
  return error instanceof MendableError || error instanceof ProblemError;
}

function databaseSentence(reason: string, config: Config | null): string {
  if (config?.database.kind !== 'embedded') return `DATABASE_URL: the database cannot be used: ${reason}.`;
  const directory = embeddedDataDir(config);
  return `The embedded PostgreSQL in ${directory} cannot be used: ${reason}. If its data is damaged, restore that directory from a copy, or delete it to begin anew.`;
}

const FILE_REASONS: Readonly<Record<string, string>> = {
  EACCES: 'permission denied; give this user the right to it, or name another place',
  EPERM: 'not permitted; give this user the right to it, or name another place',
  EROFS: 'the file system is read-only; name another place',
  ENOSPC: 'the disk is full; make room',
  EDQUOT: 'the disk quota is used up; make room',
  ENOTDIR: 'a part of the path is no directory; name another place',
  EISDIR: 'it is a directory; name a file',
  ENOENT: 'it does not exist; correct the path',
  EEXIST: 'it exists and is something else; name another place',
  EMFILE: 'too many files are open; allow more (ulimit -n)',
  ENAMETOOLONG: 'the path is too long; choose a shorter one',
};

/** Errors of the file system name a path; those of sockets do not. */
function explainFileError(error: unknown): string | null {
  if (!(error instanceof Error && 'code' in error && 'path' in error && 'syscall' in error)) return null;
  const reason = FILE_REASONS[String(error.code)];
  return reason === undefined
    ? null
    : `${String(error.path)} cannot be used: ${reason} (${String(error.code)}).`;
}
