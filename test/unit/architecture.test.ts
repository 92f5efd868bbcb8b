import { globSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { expect, it } from 'vitest';
import { z } from 'zod';

/** What each room may import. A room may always import itself, and `shared` is open to all. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  shared: [],
  migrations: ['server/database'],
  'server/local-stripe': [],
  'server/database': ['migrations'],
  'server/journal': ['server/database'],
  'server/audit': ['server/journal', 'server/database'],
  'server/notify': ['server/journal', 'server/database'],
  'server/webhooks': ['server/audit', 'server/notify', 'server/journal', 'server/database'],
  'server/credit': ['server/webhooks', 'server/audit', 'server/notify', 'server/database'],
  'server/stripe': [
    'server/webhooks',
    'server/credit',
    'server/audit',
    'server/notify',
    'server/journal',
    'server/database',
  ],
  'server/billing': [
    'server/stripe',
    'server/webhooks',
    'server/credit',
    'server/audit',
    'server/notify',
    'server/database',
  ],
  'server/api': ['server/webhooks', 'server/billing', 'server/credit', 'server/audit', 'server/database'],
  'server/http': ['server/api', 'server/billing', 'server/stripe', 'server/database'],
  'server/operator': [
    'server/config.ts',
    'server/billing',
    'server/webhooks',
    'server/stripe',
    'server/credit',
    'server/audit',
    'server/notify',
    'server/database',
  ],
  'server/environment.ts': [],
  'server/config.ts': ['server/environment.ts'],
  'server/worker.ts': [
    'server/config.ts',
    'server/http',
    'server/billing',
    'server/webhooks',
    'server/stripe',
    'server/credit',
    'server/notify',
    'server/database',
  ],
  'server/app.ts': [
    'server/worker.ts',
    'server/environment.ts',
    'server/http',
    'server/operator',
    'server/api',
    'server/webhooks',
    'server/billing',
    'server/stripe',
    'server/credit',
    'server/audit',
  ],
  'server/heap.ts': [],
  'server/ports.ts': ['server/config.ts'],
  'server/prepare.ts': ['server/config.ts', 'server/ports.ts', 'server/operator', 'server/billing'],
  'server/explain.ts': ['server/config.ts', 'server/database'],
  'server/local.ts': [
    'server/database',
    'server/config.ts',
    'server/ports.ts',
    'server/operator',
    'server/stripe',
    'server/local-stripe',
  ],
  'server/start.ts': [
    'server/ports.ts',
    'server/prepare.ts',
    'server/local.ts',
    'server/app.ts',
    'server/config.ts',
    'server/operator',
    'server/billing',
    'server/stripe',
    'server/database',
    'server/local-stripe',
  ],
  'server/welcome.ts': ['server/start.ts'],
  'server/main.ts': [
    'server/heap.ts',
    'server/prepare.ts',
    'server/start.ts',
    'server/welcome.ts',
    'server/explain.ts',
    'server/config.ts',
    'server/http',
  ],
  'server/cli.ts': [
    'server/local.ts',
    'server/app.ts',
    'server/explain.ts',
    'server/config.ts',
    'server/operator',
    'server/api',
    'server/database',
    'server/stripe',
  ],
};

const CLIENTS = new Set(['shared/client.ts', 'shared/client-errors.ts', 'shared/internal-client.ts']);

const files = globSync(['shared/**/*.ts', 'server/**/*.ts', 'migrations/**/*.ts']).filter(
  (file) => !file.includes('/assets/') && !/^server\/local-stripe\/(test|dist)\//.test(file),
);

/** A file's room: the folder under server/, a file directly in server/, or the top-level folder. */
function roomOf(file: string): string {
  const [top = '', second] = file.split('/');
  return top === 'server' && second !== undefined ? `${top}/${second}` : top;
}

function importsOf(file: string): { specifier: string; typeOnly: boolean; dynamic: boolean }[] {
  const source = readFileSync(file, 'utf8');
  const pattern =
    /^\s*(?:import|export)\s+(type\s)?(?:[^'";]*?\sfrom\s)?['"]([^'"]+)['"]|\bimport\(\s*['"]([^'"]+)['"]/gm;
  return [...source.matchAll(pattern)].map(([, type, specifier, dynamic]) => ({
    specifier: specifier ?? dynamic ?? '',
    typeOnly: type !== undefined,
    dynamic: dynamic !== undefined,
  }));
}

const edges = files.flatMap((file) =>
  importsOf(file)
    .filter(({ specifier }) => specifier.startsWith('.'))
    .map(({ specifier, typeOnly }) => ({
      file,
      target: normalize(join(dirname(file), specifier)),
      typeOnly,
    })),
);

it('sees the imports of the house', () => {
  expect(files.length).toBeGreaterThan(20);
  expect(edges.length).toBeGreaterThan(files.length);
});

it('lets imports point one way only', () => {
  const wrong = edges
    .filter(({ file, target, typeOnly }) => {
      const [from, to] = [roomOf(file), roomOf(target)];
      if (from === to || to === 'shared' || to === 'package.json') return false;
      // The typed clients take their types, and nothing else, from the routers.
      if (CLIENTS.has(file) && typeOnly && to === 'server/api') return false;
      return !(MAY_IMPORT[from] ?? []).includes(to);
    })
    .map(({ file, target }) => `${file} -> ${target}`);
  expect(wrong).toEqual([]);
});

it('knows the room of every file', () => {
  expect(files.filter((file) => MAY_IMPORT[roomOf(file)] === undefined)).toEqual([]);
});

it('keeps the contract free of everything but zod, and the client of everything but the tRPC client', () => {
  const packages = files
    .filter((file) => file.startsWith('shared/'))
    .flatMap((file) => importsOf(file).map(({ specifier }) => ({ file, specifier })))
    .filter(({ specifier }) => !specifier.startsWith('.'))
    .filter(
      ({ file, specifier }) => specifier !== 'zod' && !(CLIENTS.has(file) && specifier.startsWith('@trpc/')),
    )
    .map(({ file, specifier }) => `${file} -> ${specifier}`);
  expect(packages).toEqual([]);
});

it('reads the environment in one file only', () => {
  const readers = files.filter((file) => /\bprocess\.env\b/.test(readFileSync(file, 'utf8')));
  expect(
    readers.filter(
      (file) => !['server/main.ts', 'server/cli.ts', 'server/local-stripe/main.ts'].includes(file),
    ),
  ).toEqual([]);
});

/** What is read when this file is: files and packages, without what is loaded later or is a type. */
function readWith(entry: string): { files: Set<string>; packages: Set<string> } {
  const reached = new Set<string>();
  const packages = new Set<string>();
  const walk = (file: string): void => {
    if (reached.has(file)) return;
    reached.add(file);
    for (const { specifier, typeOnly, dynamic } of importsOf(file)) {
      if (typeOnly || dynamic) continue;
      if (specifier.startsWith('.')) walk(normalize(join(dirname(file), specifier)));
      else if (!specifier.startsWith('node:')) packages.add(specifier);
    }
  };
  walk(entry);
  return { files: reached, packages };
}

it('refuses a wrong configuration before the service and its libraries are loaded', () => {
  const reached = readWith('server/main.ts');
  expect(reached.files).toContain('server/environment.ts');
  expect(reached.files).toContain('server/prepare.ts');
  expect([...reached.packages].sort()).toEqual(['tldts', 'zod']);
  expect(reached.files.size).toBeLessThan(20);
});

it('answers help and a wrong call before database, Stripe and their libraries are loaded', () => {
  const reached = readWith('server/cli.ts');
  expect(reached.files).toContain('server/operator/commands.ts');
  expect([...reached.packages]).toEqual(['zod']);
  expect(reached.files.size).toBeLessThan(15);
});

it.each(['server/main.ts', 'server/start.ts', 'server/cli.ts'])(
  '%s is read without the local Stripe, which the image of the service goes without',
  (entry) => {
    const { files: reached } = readWith(entry);
    expect(reached).toContain('server/config.ts');
    expect([...reached].filter((file) => roomOf(file) === 'server/local-stripe')).toEqual([]);
  },
);

it('fills the compile cache with every file that a start or a command reads, now or later', () => {
  const source = readFileSync('server/compile-cache.js', 'utf8');
  const [, list = ''] = /const READ = ([^;]*);/.exec(source) ?? [];
  const names = [...list.matchAll(/'([^']+)'/g)].map(([, name = '']) => `server/${name}.ts`);
  const reached = new Set([...names, 'server/local.ts'].flatMap((entry) => [...readWith(entry).files]));
  const read = edges.filter(({ typeOnly }) => !typeOnly).map(({ target }) => target);
  const ours = read.filter((file) => file.startsWith('server/') && roomOf(file) !== 'server/local-stripe');
  expect(ours.filter((file) => file.endsWith('.ts') && !reached.has(file))).toEqual([]);
});

it('starts the image as `npm start` does, with the cache that `npm ci` fills', () => {
  const { scripts } = z
    .object({ scripts: z.object({ start: z.string(), postinstall: z.string() }) })
    .parse(JSON.parse(readFileSync('package.json', 'utf8')));
  const lines = readFileSync('Dockerfile', 'utf8').split('\n');
  const [command = '[]'] = lines.flatMap((line) => (line.startsWith('CMD ') ? [line.slice(4)] : []));
  expect(z.array(z.string()).parse(JSON.parse(command)).join(' ')).toBe(scripts.start);
  expect(lines).toContain(`RUN ${scripts.postinstall}`);
});

it('lets the local Stripe use what its own package names, and nothing else', () => {
  const own = z
    .object({ dependencies: z.record(z.string(), z.string()) })
    .parse(JSON.parse(readFileSync('server/local-stripe/package.json', 'utf8')));
  const used = new Set(
    files
      .filter((file) => file.startsWith('server/local-stripe/'))
      .flatMap((file) => importsOf(file).map(({ specifier }) => specifier))
      .filter((specifier) => !specifier.startsWith('.') && !specifier.startsWith('node:')),
  );
  expect([...used].sort()).toEqual(Object.keys(own.dependencies).sort());
});

it('has no cycle between files at run time', () => {
  const next = new Map<string, string[]>();
  for (const { file, target, typeOnly } of edges) {
    if (!typeOnly) next.set(file, [...(next.get(file) ?? []), target]);
  }
  const done = new Set<string>();
  const visit = (file: string, path: readonly string[]): readonly string[] | null => {
    if (path.includes(file)) return [...path.slice(path.indexOf(file)), file];
    if (done.has(file)) return null;
    for (const target of next.get(file) ?? []) {
      const cycle = visit(target, [...path, file]);
      if (cycle) return cycle;
    }
    done.add(file);
    return null;
  };
  expect(files.map((file) => visit(file, [])).find((cycle) => cycle !== null) ?? null).toBeNull();
});
