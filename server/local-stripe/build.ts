import { spawnSync } from 'node:child_process';
import { cpSync, rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/**
 * Makes `dist` for the package, which Node must run from node_modules and so cannot be TypeScript, and takes it away
 * again (`--clean`): npm calls it before and after packing, so a checkout never runs anything but its source.
 */
const here = fileURLToPath(new URL('.', import.meta.url));
rmSync(`${here}dist`, { recursive: true, force: true });
if (!process.argv.includes('--clean')) {
  const { status } = spawnSync('tsc', ['-p', 'tsconfig.build.json'], {
    cwd: here,
    stdio: 'inherit',
    shell: process.platform === 'win32',
  });
  if (status !== 0) process.exit(1);
  cpSync(`${here}pages/assets`, `${here}dist/pages/assets`, { recursive: true });
}
