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

// A checkout holds the source, the package what was built of it.
const source = fileURLToPath(new URL('./main.ts', import.meta.url));
await import(existsSync(source) ? './main.ts' : './dist/main.js');
