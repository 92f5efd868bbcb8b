import { createReadStream, existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { text } from 'node:stream/consumers';
import { type Config, ConfigError, readConfig } from './config.ts';
import { explain } from './explain.ts';
import { type Command, readArguments, UsageError } from './operator/command.ts';
import { OPERATOR_COMMANDS } from './operator/commands.ts';
import { ACCOUNT, ACCOUNT_HELP } from './operator/words.ts';

// What a command works with is read when it is run, so that help and a wrong call are answered at once.
const COMMANDS: readonly Command[] = [
  {
    name: 'migrate',
    usage: '[--json]',
    summary: 'Bring the tables of the database up to date',
    options: [],
    async run({ config, say, answer }) {
      const { warnIfAhead, withDatabase } = await import('./operator/database.ts');
      const { migrate, pendingMigrations } = await import('./database/migrate.ts');
      const { pending, ahead } = await withDatabase(
        config,
        async (db) => {
          const found = await pendingMigrations(db);
          await migrate(db);
          return { pending: found, ahead: await warnIfAhead(db) };
        },
        { migrated: false },
      );
      for (const name of pending) say(`Applied ${name}`);
      if (ahead !== null) say(`Beware: ${ahead}.`);
      else if (pending.length === 0) say('The database is up to date.');
      answer({ applied: pending });
    },
  },
  ...OPERATOR_COMMANDS,
  {
    name: 'openapi',
    usage: '[--write FILE | --check FILE]',
    summary: 'Print the OpenAPI document, write it to a file, or compare a file with it',
    options: ['write', 'check'],
    async run({ say }, given) {
      const [write, check] = [given.option('write'), given.option('check')];
      if (write !== undefined && check !== undefined) throw new UsageError('--write or --check, not both');
      const { serializeOpenApi } = await import('./api/openapi.ts');
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
  const asksHelp = argv.some((word) => word === '--help' || word === '-h');
  const line = asksHelp ? argv.filter((word) => word !== '--help' && word !== '-h') : argv;
  const command = COMMANDS.find(({ name }) => name === line.slice(0, name.split(' ').length).join(' '));
  if (line.length === 0 || (asksHelp && (command !== undefined || isGroup(line)))) {
    console.log(command ? helpOf(command) : help(line[0]));
    return 0;
  }
  if (command === undefined) {
    console.error(`Unknown command: ${line.join(' ')}\n\n${help(line[0])}`);
    return 2;
  }
  let config: Config | null = null;
  try {
    const given = readArguments(command, line.slice(command.name.split(' ').length));
    config = readConfig(process.env);
    const { deploymentClock } = await import('./operator/stripe.ts');
    const { now } = await deploymentClock(config, async (of) =>
      (await import('./local.ts')).stoppedAheadMs(of),
    );
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
    return await tell(command, error, config);
  }
}

/** Whether this is the first word of some commands, such as `keys`, and nothing else. */
function isGroup([group, ...more]: readonly string[]): boolean {
  return more.length === 0 && COMMANDS.some(({ name }) => name.split(' ')[0] === group);
}

async function tell(command: Command, error: unknown, config: Config | null): Promise<number> {
  if (error instanceof UsageError) {
    console.error(`${error.message}\nUsage: ${CALL} ${command.name} ${command.usage}`);
    return 2;
  }
  for (const line of await explain(error, config)) console.error(line);
  return error instanceof ConfigError ? 2 : 1;
}

const CALL = 'npm run --silent cli --';

/** All commands, or those of one group such as `keys`. */
function help(group: string | undefined): string {
  const some = COMMANDS.filter(({ name }) => name.split(' ')[0] === group);
  const lines = (some.length > 0 ? some : COMMANDS).map(
    ({ name, summary }) => `  ${name.padEnd(20)} ${summary}`,
  );
  return [
    `Usage: ${CALL} COMMAND [--help]`,
    '',
    ...lines,
    '',
    'COMMAND --help shows how one is called.',
  ].join('\n');
}

/** One command: how it is called, what it does, and what its words mean. */
function helpOf({ name, usage, summary, words = [] }: Command): string {
  const about = [
    ...(usage.includes(ACCOUNT) ? [ACCOUNT_HELP] : []),
    ...(usage.includes('--json') ? ['--json prints one JSON object and nothing else.'] : []),
    ...(words.includes('EVENT_ID') ? ["EVENT_ID is Stripe's, evt_…: see events list."] : []),
    ...(words.includes('KEY_ID') ? ['KEY_ID is key_…: see keys list.'] : []),
  ];
  return [
    `Usage: ${CALL} ${name} ${usage}`,
    '',
    `${summary}.`,
    ...(about.length > 0 ? [''] : []),
    ...about,
  ].join('\n');
}

if (import.meta.main) {
  const code = await main(process.argv.slice(2));
  // A connection that was refused half way would keep the process for another minute.
  if (code !== 0) process.exit(code);
}
