import { flushCompileCache } from 'node:module';
import type { Logger } from 'pino';
import { type Config, readConfig } from './config.ts';
import { explain } from './explain.ts';
import { collectEarly } from './heap.ts';
import { prepare } from './prepare.ts';
import type { Running } from './start.ts';

if (import.meta.main) await main();

async function main(): Promise<void> {
  let config: Config | null = null;
  try {
    config = readConfig(process.env);
    const prepared = await prepare(config);
    // Loaded only now: a wrong configuration is told before the many files of the service are read.
    const [{ start }, { createLog }] = await Promise.all([import('./start.ts'), import('./http/log.ts')]);
    const log = createLog({ level: config.logLevel });
    const local = config.stripe.kind === 'local';
    const running = await start(config, prepared, log, (line) => local && console.log(`  ${line} …`));
    endOnSignal(running, local ? (line) => console.log(line) : (line) => log.info(line));
    await announce(running, config, log);
    // What a start makes of our files would else be kept at an orderly end only.
    flushCompileCache();
    collectEarly();
  } catch (error) {
    for (const line of await explain(error, config)) console.error(line);
    process.exit(1);
  }
}

async function announce(running: Running, { roles }: Config, log: Logger): Promise<void> {
  const { url, opsUrl, local, warnings } = running;
  if (local) {
    const { welcome } = await import('./welcome.ts');
    // By the clock of the process, which began before this file was read.
    console.log(welcome(running, performance.now()));
  } else {
    log.info({ url, ...(opsUrl !== null && { ops_url: opsUrl }), roles: [...roles] }, 'listening');
  }
  for (const warning of warnings) log.warn(warning);
}

/** The first signal asks everything to finish; a second one does not wait for it. */
function endOnSignal(running: Running, say: (line: string) => void): void {
  let asked = false;
  const end = async (): Promise<void> => {
    if (asked) process.exit(1);
    asked = true;
    say('  stopping: what is under way is finished first; once more stops at once …');
    await running.close();
    say('  stopped; nothing is left running, and everything is kept for the next start');
    process.exit(0);
  };
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => void end());
}
