import { existsSync, globSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { describe, expect, it } from 'vitest';
import { environment } from '../../server/environment.ts';

/** The lists of the files that a line of code passes, each in the README of its room. */
const WALKS = [
  { readme: 'server/stripe/README.md', of: 'an event' },
  { readme: 'server/billing/README.md', of: 'a read' },
  { readme: 'server/billing/README.md', of: 'a mint' },
  { readme: 'server/webhooks/README.md', of: 'a delivery' },
  { readme: 'server/notify/README.md', of: 'a mail' },
];

/** What two files have in common that are put together here and know nothing of each other. */
const WIRING = ['server/app.ts', 'server/worker.ts', 'server/http/api-door.ts'];

const READMES = globSync(['README.md', 'server/*/README.md', 'test/**/README.md']);

/** `said` is the length its heading gives. */
function walkIn({ readme, of }: (typeof WALKS)[number]): { said: number; files: string[] } {
  const [, rest = ''] = readFileSync(readme, 'utf8').split(`\n## Walk of ${of} (`);
  const [section = ''] = rest.split('\n## ');
  const files = [...section.matchAll(/^\d+\. `([^`]+)`: /gm)].map(([, file = '']) => file);
  return { said: Number.parseInt(section, 10), files };
}

/** Types count: who hands something on need not know more of it. */
function importsOf(file: string): string[] {
  const source = readFileSync(file, 'utf8');
  return [...source.matchAll(/(?:\sfrom|\bimport\()\s*'(\.[^']+)'/g)].map(([, path = '']) =>
    normalize(join(dirname(file), path)),
  );
}

const importsEither = (one: string, other: string): boolean =>
  importsOf(one).includes(other) || importsOf(other).includes(one);

describe.each(WALKS)('the walk of $of', (walk) => {
  const { said, files } = walkIn(walk);

  it('is as long as its heading says, and passes no file twice', () => {
    expect(files.length).toBeGreaterThan(5);
    expect(files.length).toBe(said);
    expect(new Set(files).size).toBe(said);
  });

  it('passes files that are there', () => {
    expect(files.filter((file) => !existsSync(file))).toEqual([]);
  });

  it('goes from each file to one that has to do with those before it', () => {
    const [first, ...rest] = files;
    const strangers = rest.filter((file, at) => {
      const before = [first ?? '', ...rest.slice(0, at)];
      const wired = WIRING.some(
        (room) => importsOf(room).includes(file) && before.some((one) => importsOf(room).includes(one)),
      );
      return !wired && !before.some((one) => importsEither(one, file));
    });
    expect(strangers).toEqual([]);
  });
});

it('names no file, in any README, that is not there', () => {
  expect(READMES.length).toBeGreaterThan(7);
  const gone = READMES.flatMap((readme) => {
    const text = readFileSync(readme, 'utf8');
    const named = [...text.matchAll(/`((?:server|shared|test|migrations)\/[\w./-]*\w)`/g)].map(
      ([, path = '']) => path,
    );
    const linked = [...text.matchAll(/\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)/g)].map(([, path = '']) =>
      normalize(join(dirname(readme), path)),
    );
    return [...named, ...linked].filter((path) => !existsSync(path)).map((path) => `${readme}: ${path}`);
  });
  expect(gone).toEqual([]);
});

it('links to headings that are there', () => {
  const slug = (heading: string) =>
    heading
      .toLowerCase()
      .replace(/[^\w\s-]/g, '')
      .trim()
      .replace(/\s/g, '-');
  const dead = READMES.flatMap((readme) =>
    [...readFileSync(readme, 'utf8').matchAll(/\]\((?!https?:)([^)#]+)#([^)]+)\)/g)]
      .filter(([, path = '', anchor = '']) => {
        const file = normalize(join(dirname(readme), path));
        const headings = [...readFileSync(file, 'utf8').matchAll(/^#+ (.+)$/gm)];
        return !headings.some(([, heading = '']) => slug(heading) === anchor);
      })
      .map(([link]) => `${readme}: ${link}`),
  );
  expect(dead).toEqual([]);
});

it('explains every variable of the environment, and none that is not read', () => {
  const [, section = ''] = readFileSync('server/operator/README.md', 'utf8').split('\n## Environment\n');
  const rows = section.split('\n## ')[0]?.match(/^\| `.*$/gm) ?? [];
  const explained = rows.flatMap((row) =>
    [...(row.split('|')[1] ?? '').matchAll(/`(\w+)`/g)].map(([, name]) => name),
  );
  expect(explained.sort()).toEqual(Object.keys(environment.shape).sort());
});

it('names in the first README only variables that are read', () => {
  const names = readFileSync('README.md', 'utf8').matchAll(/^\| `([A-Z_]+)` \|/gm);
  const named = [...names].map(([, name = '']) => name);
  expect(named.length).toBe(8);
  expect(named.filter((name) => !(name in environment.shape))).toEqual([]);
});
