import { execFile } from 'node:child_process';
import { copyFileSync } from 'node:fs';
import { chmod, chown, lstat, mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

/** A checkout with one file to run, which tells whether Node's compiler for TypeScript has been loaded. */
let checkout: string;
const cache = (...path: string[]): string =>
  join(checkout, 'node_modules/.cache/driftstack-billing', ...path);

beforeEach(async () => {
  checkout = await mkdtemp(join(tmpdir(), 'compile-cache-'));
  await mkdir(join(checkout, 'server'));
  await mkdir(join(checkout, 'node_modules'));
  copyFileSync('server/compile-cache.js', join(checkout, 'server/compile-cache.js'));
  await writeFile(join(checkout, 'package.json'), '{"type":"module"}');
  await writeFile(
    join(checkout, 'server/main.ts'),
    "const loaded: string[] = Reflect.get(process, 'moduleLoadList');\nconsole.log(loaded.some((name) => name.includes('amaro')) ? 'compiled' : 'kept');\n",
  );
});
afterEach(() => rm(checkout, { recursive: true }));

async function run(): Promise<string> {
  const { stdout } = await promisify(execFile)(
    process.execPath,
    ['--import', './server/compile-cache.js', 'server/main.ts'],
    { cwd: checkout, env: {} },
  );
  return stdout.trim();
}

it('keeps what Node makes of TypeScript, where nobody else can read or write', async () => {
  expect(await run()).toBe('compiled');
  expect(await run()).toBe('kept');
  expect((await lstat(cache())).mode & 0o777).toBe(0o700);
});

it('keeps nothing where others could put what is then run', async () => {
  await mkdir(cache(), { recursive: true });
  await chmod(cache(), 0o777);
  expect([await run(), await run()]).toEqual(['compiled', 'compiled']);
  expect(await readdir(cache())).toEqual([]);
});

it('follows no link', async () => {
  const elsewhere = join(checkout, 'elsewhere');
  await mkdir(elsewhere, { mode: 0o700 });
  await mkdir(join(checkout, 'node_modules/.cache'));
  await symlink(elsewhere, cache());
  expect([await run(), await run()]).toEqual(['compiled', 'compiled']);
  expect(await readdir(elsewhere)).toEqual([]);
});

describe.runIf(process.getuid?.() === 0)('as root', () => {
  it('leaves nothing behind in the checkout of somebody else', async () => {
    await chown(join(checkout, 'node_modules'), 65_534, 65_534);
    expect([await run(), await run()]).toEqual(['compiled', 'compiled']);
    expect(await readdir(join(checkout, 'node_modules'))).toEqual([]);
  });

  it('runs nothing that somebody else keeps', async () => {
    await mkdir(cache(), { recursive: true, mode: 0o700 });
    await chown(cache(), 65_534, 65_534);
    expect([await run(), await run()]).toEqual(['compiled', 'compiled']);
    expect(await readdir(cache())).toEqual([]);
  });
});

it('goes without where there is no place for it', async () => {
  await rm(join(checkout, 'node_modules'), { recursive: true });
  expect(await run()).toBe('compiled');
  await writeFile(join(checkout, 'node_modules'), '');
  expect(await run()).toBe('compiled');
});
