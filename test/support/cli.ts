import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const CLI = fileURLToPath(new URL('../../server/cli.ts', import.meta.url));

export type CliRun = { code: number; out: string; err: string; json: () => unknown };

/**
 * Runs a command as an operator does, against this database and this Stripe (null: the local one of its directory),
 * and nothing of the caller's environment.
 */
export function runCli(
  {
    databaseUrl,
    stripeUrl,
    ...more
  }: { databaseUrl: string; stripeUrl: string | null; env?: Readonly<Record<string, string>> },
  ...args: string[]
): Promise<CliRun> {
  const { PATH = '', HOME = '' } = process.env;
  const env = {
    PATH,
    HOME,
    DATABASE_URL: databaseUrl,
    ...(stripeUrl !== null && { STRIPE_SECRET_KEY: 'sk_test_scripted', STRIPE_API_BASE: stripeUrl }),
    ...more.env,
  };
  return new Promise((resolve) => {
    const child = execFile(process.execPath, [CLI, ...args], { env }, (_error, out, err) => {
      resolve({ code: child.exitCode ?? -1, out, err, json: () => JSON.parse(out) });
    });
  });
}
