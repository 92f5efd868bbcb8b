import { createReadStream, existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { text } from 'node:stream/consumers';
import { ProblemError } from '../shared/errors.ts';
import { serializeOpenApi } from './api/openapi.ts';
import { ConfigError, readConfig } from './config.ts';
import { explainDefect } from './database/describe-error.ts';
import { migrate, pendingMigrations } from './database/migrate.ts';
import { isDatabaseUnavailable } from './database/unavailable.ts';
import { ACCOUNT_COMMANDS } from './operator/account-commands.ts';
import { AUDIT_COMMANDS } from './operator/audit-commands.ts';
import { type Command, readArguments, UsageError } from './operator/command.ts';
import { DatabaseBehindError, withDatabase } from './operator/database.ts';
import { EVENT_COMMANDS } from './operator/event-commands.ts';
import { EXPLAIN_COMMANDS } from './operator/explain-commands.ts';
import { RECONCILE_COMMANDS } from './operator/reconcile-commands.ts';
import { deploymentClock } from './operator/stripe.ts';
import { STRIPE_COMMANDS } from './operator/stripe-commands.ts';
import { WEBHOOK_COMMANDS } from './operator/webhook-commands.ts';

const COMMANDS: readonly Command[] = [
  {
    name: 'migrate',
    usage: '[--json]',
    summary: 'Bring the database up to date: tables and job queues',
    options: [],
    async run({ config, say, answer }) {
      const pending = await withDatabase(
        config,
        async (db) => {
          const found = await pendingMigrations(db);
          await migrate(db);
          return found;
        },
        { migrated: false },
      );
      for (const name of pending) say(`Applied ${name}`);
      if (pending.length === 0) say('The database is up to date.');
      answer({ applied: pending });
    },
  },
  ...ACCOUNT_COMMANDS,
  ...STRIPE_COMMANDS,
  ...EXPLAIN_COMMANDS,
  ...RECONCILE_COMMANDS,
  ...EVENT_COMMANDS,
  ...AUDIT_COMMANDS,
  ...WEBHOOK_COMMANDS,
  {
    name: 'openapi',
    usage: '[--write FILE | --check FILE]',
    summary: 'Print the OpenAPI document, write it to a file, or compare a file with it',
    options: ['write', 'check'],
    async run({ say }, given) {
      const [write, check] = [given.option('write'), given.option('check')];
      const document = serializeOpenApi();
      if (write !== undefined) await writeFile(write, document);
      else if (check === undefined) process.stdout.write(document);
      else if ((existsSync(check) ? await text(createReadStream(check)) : '') !== document) {
        throw new UsageError(
          `${check} is not what the routers say. Write it anew with: npm run --silent openapi`,
        );
      } else say(`${check} is what the routers say.`);
    },
  },
];

/** Runs one command. Exit codes: 0 done, 1 failed, 2 wrong call or environment. */
async function main(argv: readonly string[]): Promise<number> {
  const command = COMMANDS.find(({ name }) => name === argv.slice(0, name.split(' ').length).join(' '));
  if (command === undefined || argv.includes('--help')) {
    const asked = argv.length === 0 || argv.includes('--help');
    (asked ? console.log : console.error)(asked ? help() : `Unknown command: ${argv.join(' ')}\n\n${help()}`);
    return asked ? 0 : 2;
  }
  try {
    const given = readArguments(command, argv.slice(command.name.split(' ').length));
    const config = readConfig(process.env);
    const { now } = await deploymentClock(config);
    await command.run(
      {
        config,
        now,
        say: (line) => given.json || console.log(line),
        answer: (value) => given.json && console.log(JSON.stringify(value)),
      },
      given,
    );
    return 0;
  } catch (error) {
    return explain(command, error);
  }
}

/** Expected failures are one line for a person; anything else is a defect and shows its stack. */
function explain(command: Command, error: unknown): number {
  if (error instanceof ConfigError) {
    for (const mistake of error.mistakes) console.error(mistake);
    return 2;
  }
  if (error instanceof UsageError) {
    console.error(`${error.message}\nUsage: npm run --silent cli -- ${command.name} ${command.usage}`);
    return 2;
  }
  if (error instanceof ProblemError || error instanceof DatabaseBehindError) console.error(error.message);
  else if (isDatabaseUnavailable(error))
    console.error('The database cannot be reached. Check DATABASE_URL and that it accepts connections.');
  else console.error(explainDefect(error));
  return 1;
}

function help(): string {
  const lines = COMMANDS.map(({ name, usage, summary }) => `  ${`${name} ${usage}`.padEnd(70)} ${summary}`);
  return ['Usage: npm run --silent cli -- COMMAND', '', ...lines].join('\n');
}

process.exitCode = await main(process.argv.slice(2));
