import { existsSync } from 'node:fs';

export const INSTALL = 'npm ci --prefix test/bench/peers';

/** Whether the peers are there; they are no part of the product and are installed by hand. */
export function arePeersInstalled(): boolean {
  return existsSync(new URL('./node_modules/better-auth/package.json', import.meta.url));
}
