import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { mkdtemp, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { z } from 'zod';

const HERE = fileURLToPath(new URL('..', import.meta.url));
const MODULES = fileURLToPath(new URL('../../../node_modules/', import.meta.url));
const run = promisify(execFile);
const manifest = z.object({ dependencies: z.record(z.string(), z.string()) });

let home: string;
let packed: string[];

/** What `npm pack` makes, beside the dependencies that it names and nothing else. */
beforeAll(async () => {
  home = await realpath(await mkdtemp(join(tmpdir(), 'local-stripe-package-')));
  const { stdout } = await run('npm', ['pack', '--pack-destination', home, '--cache', join(home, 'cache')], {
    cwd: HERE,
  });
  const archive = join(home, stdout.trim().split('\n').at(-1) ?? '');
  packed = (await run('tar', ['tzf', archive])).stdout.trim().split('\n');
  const place = join(home, 'node_modules/@driftstack/local-stripe');
  mkdirSync(place, { recursive: true });
  await run('tar', ['xzf', archive, '-C', place, '--strip-components', '1']);
  const { dependencies } = manifest.parse(JSON.parse(readFileSync(join(place, 'package.json'), 'utf8')));
  for (const name of [...Object.keys(dependencies), '@types/node', 'undici-types']) {
    mkdirSync(dirname(join(home, 'node_modules', name)), { recursive: true });
    symlinkSync(join(MODULES, name), join(home, 'node_modules', name));
  }
  writeFileSync(join(home, 'package.json'), '{ "type": "module" }');
});
afterAll(() => rm(home, { recursive: true }));

it('holds what it runs with, what is to be read, and no source or test', () => {
  const others = packed.filter((file) => !/^package\/dist\/[\w/-]+\.(js|d\.ts)$/.test(file));
  expect(others.sort()).toEqual([
    'package/LICENSE',
    'package/README.md',
    'package/bin.js',
    'package/dist/pages/assets/icon.svg',
    'package/dist/pages/assets/style.css',
    'package/package.json',
  ]);
  expect(packed).toContain('package/dist/main.js');
  expect(packed.filter((file) => file.includes('test/') || file.includes('build'))).toEqual([]);
});

it('starts by its bin and serves the stripe package and the pages', async () => {
  const bin = join(home, 'node_modules/@driftstack/local-stripe/bin.js');
  const child = spawn(process.execPath, [bin, '--port', '0'], { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = once(child, 'exit');
  try {
    const [text] = await once(child.stdout, 'data');
    const url = /answers on (http:\/\/127\.0\.0\.1:\d+)/.exec(String(text))?.[1] ?? '';
    const program = `
      import Stripe from 'stripe';
      const { hostname: host, port } = new URL('${url}');
      const stripe = new Stripe('sk_test_123', { host, port, protocol: 'http', telemetry: false });
      const { id } = await stripe.customers.create({ email: 'ada@example.test' });
      const { email } = await stripe.customers.retrieve(id);
      process.stdout.write(email);`;
    writeFileSync(join(home, 'program.js'), program);
    expect((await run(process.execPath, [join(home, 'program.js')])).stdout).toBe('ada@example.test');
    expect((await fetch(`${url}/console`)).status).toBe(200);
    expect((await fetch(`${url}/_pages/style.css`)).status).toBe(200);
  } finally {
    child.kill('SIGINT');
    await ended;
  }
  expect(child.exitCode).toBe(0);
});

it('is started by a program as well, with types of its own', async () => {
  const program = `
    import { type LocalStripe, startLocalStripe } from '@driftstack/local-stripe';
    const local: LocalStripe = await startLocalStripe({ port: 0, dataPath: ':memory:' });
    const ahead: number = local.world.aheadSeconds();
    // @ts-expect-error A port is a number.
    const port: string = local.port;
    await local.close();
    process.stdout.write(String(ahead + Number(port > '0')));`;
  writeFileSync(join(home, 'typed.ts'), program);
  const options = [
    '--module',
    'nodenext',
    '--target',
    'es2024',
    '--strict',
    '--skipLibCheck',
    '--types',
    'node',
  ];
  await run(join(MODULES, '.bin/tsc'), [...options, 'typed.ts'], { cwd: home });
  expect((await run(process.execPath, [join(home, 'typed.js')])).stdout).toBe('1');
});
