import { once } from 'node:events';
import { createServer } from 'node:net';
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
      const why = whyNot(error);
      if (why === null) throw error;
      if (fixed || why !== TAKEN) throw new ConfigError([`${name} ${port} ${why}`]);
      if (port === number + PORTS_TRIED)
        throw new ConfigError([`${name}: ${number} to ${port} are all in use; set it to a free port`]);
    }
  }
}

/** Beside the local Stripe only this machine is listened to; a deployment is reached from elsewhere. */
export function hostOf({ stripe }: Pick<Config, 'stripe'>): string {
  return stripe.kind === 'local' ? '127.0.0.1' : '0.0.0.0';
}

/**
 * Throws the ConfigError that `firstFree` would, before anything is started, for ports that were asked for and
 * cannot be had: in use, not for this user, or asked for twice.
 */
export async function requirePorts(config: Pick<Config, 'port' | 'opsPort' | 'stripe'>): Promise<void> {
  const { port, opsPort, stripe } = config;
  const given = [
    { name: 'PORT', ...port },
    ...(opsPort === null ? [] : [{ name: 'OPS_PORT', number: opsPort, fixed: true }]),
    ...(stripe.kind === 'local' ? [{ name: 'SANDBOX_PORT', ...stripe.port }] : []),
  ].filter(({ number, fixed }) => fixed && number !== 0);
  const twice = given.filter(({ number }, at) => given.findIndex((other) => other.number === number) < at);
  if (twice.length > 0)
    throw new ConfigError(
      twice.map(({ name, number }) => `${name} ${number} is given to another variable too`),
    );
  for (const { name, number, fixed } of given) {
    await firstFree({ number, fixed }, name, async (at) => {
      const server = createServer().listen(at, hostOf(config));
      await once(server, 'listening');
      server.close();
      await once(server, 'close');
    });
  }
}

const TAKEN = 'is in use by another process; stop it, or choose another port';
const REASONS: Readonly<Record<string, string>> = {
  EADDRINUSE: TAKEN,
  EACCES: 'is not for this user to listen on; choose one above 1023',
};

function whyNot(error: unknown): string | null {
  return error instanceof Error && 'code' in error ? (REASONS[String(error.code)] ?? null) : null;
}
