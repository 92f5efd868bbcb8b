import { type Config, readConfig } from './config.ts';
import { explain } from './explain.ts';
import { createLog } from './http/log.ts';
import { type Running, start } from './start.ts';
import { welcome } from './welcome.ts';

const startedAt = performance.now();

let config: Config | null = null;
try {
  config = readConfig(process.env);
  const log = createLog({ level: config.logLevel });
  const local = config.stripe.kind === 'local';
  const running = await start(config, log, (line) => local && console.log(`  ${line} …`));
  endOnSignal(running, local ? (line) => console.log(line) : (line) => log.info(line));
  if (local) console.log(welcome(running, performance.now() - startedAt));
  else
    log.info(
      {
        url: running.url,
        ...(running.opsUrl !== null && { ops_url: running.opsUrl }),
        roles: [...config.roles],
      },
      'listening',
    );
  for (const warning of running.warnings) log.warn(warning);
} catch (error) {
  for (const line of explain(error, config)) console.error(line);
  process.exit(1);
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
