import { type Config, ConfigError } from './config.ts';

/** How many ports after the preferred one are tried when another checkout has taken it. */
const PORTS_TRIED = 50;

/**
 * Listens on the wanted port; one that was not asked for gives way to the next free one. Throws a ConfigError
 * that names the variable.
 */
export async function firstFree<T>(
  { number, fixed }: Config['port'],
  name: string,
  listen: (port: number) => Promise<T>,
): Promise<T> {
  for (let port = number; ; port += 1) {
    try {
      return await listen(port);
    } catch (error) {
      if (!isTaken(error)) throw error;
      if (fixed) throw new ConfigError([`${name} ${port} is in use by another process`]);
      if (port === number + PORTS_TRIED)
        throw new ConfigError([`${name}: ${number} to ${port} are all in use`]);
    }
  }
}

function isTaken(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'EADDRINUSE';
}
