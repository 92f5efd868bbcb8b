#!/usr/bin/env node
// Plain JavaScript, so that an old Node can read it and say what is missing.
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
if (major < 22 || (major === 22 && minor < 13)) {
  process.stderr.write(
    `The local Stripe needs Node 22.13 or newer, for its SQLite; this is ${process.versions.node}.\n`,
  );
  process.exit(1);
}

// The package holds the built files, a checkout the source.
const built = fileURLToPath(new URL('./dist/main.js', import.meta.url));
await import(existsSync(built) ? './dist/main.js' : './main.ts');
