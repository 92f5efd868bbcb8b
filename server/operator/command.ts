import { parseArgs } from 'node:util';
import type { Config } from '../config.ts';

/** What a command may use; `database` connects on first use and is closed by whoever runs the command. */
export interface CommandContext {
  readonly config: Config;
  readonly now: () => Date;
  /** For a person; silent with --json. */
  readonly say: (line: string) => void;
  /** The one JSON object of --json; printed as given, nothing else goes to standard output. */
  readonly answer: (value: object) => void;
}

export interface Command {
  /** `accounts create` */
  readonly name: string;
  /** Its options as a person reads them, such as `--email ADDRESS`. */
  readonly usage: string;
  readonly summary: string;
  /** Every option but --json and --help takes a value, unless listed in `flags`. */
  readonly options: readonly string[];
  readonly flags?: readonly string[];
  /** Words after the name, such as an id. */
  readonly words?: readonly string[];
  run(context: CommandContext, given: Given): Promise<void>;
}

/** What stood on the command line; `required` and `word` throw a UsageError naming what is missing. */
export interface Given {
  option(name: string): string | undefined;
  required(name: string): string;
  flag(name: string): boolean;
  word(name: string): string;
  /** A word that may be left out. */
  optionalWord(name: string): string | undefined;
}

/** The call was wrong: shown with the usage, exit code 2. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** Reads the arguments that follow a command's name. Throws a UsageError for anything it does not know. */
export function readArguments(command: Command, args: readonly string[]): Given & { readonly json: boolean } {
  const { values, positionals } = parse(command, args);
  const words = command.words ?? [];
  const extra = positionals[words.length];
  if (extra !== undefined) throw new UsageError(`unexpected word: ${extra}`);
  const option = (name: string): string | undefined => {
    const value = values[name];
    return typeof value === 'string' ? value : undefined;
  };
  return {
    json: values['json'] === true,
    option,
    required(name) {
      const value = option(name);
      if (value === undefined || value === '') throw new UsageError(`--${name} is missing`);
      return value;
    },
    flag: (name) => values[name] === true,
    word(name) {
      const value = positionals[words.indexOf(name)];
      if (value === undefined) throw new UsageError(`${name} is missing`);
      return value;
    },
    optionalWord: (name) => positionals[words.indexOf(name)],
  };
}

function parse(command: Command, args: readonly string[]): ReturnType<typeof parseArgs> {
  const flags = ['json', ...(command.flags ?? [])];
  try {
    const parsed = parseArgs({
      args: [...args],
      allowPositionals: true,
      tokens: true,
      options: Object.fromEntries([
        ...command.options.map((name) => [name, { type: 'string' as const }]),
        ...flags.map((name) => [name, { type: 'boolean' as const }]),
      ]),
    });
    requireOnce(parsed.tokens.flatMap((token) => (token.kind === 'option' ? [token.name] : [])));
    return parsed;
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

/** Of an option that is given twice the first would be dropped without a word. */
function requireOnce(names: readonly string[]): void {
  const twice = names.find((name, at) => names.indexOf(name) < at);
  if (twice !== undefined) throw new UsageError(`--${twice} is given twice`);
}
