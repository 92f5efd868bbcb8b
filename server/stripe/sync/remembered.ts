import type { StripeCalls } from '../api/gateway.ts';

/** Something the writing of a pass wants to know of Stripe, or to have done there, that it has no answer to yet. */
export class Unanswered extends Error {
  override readonly name = 'Unanswered';
  readonly key: string;
  /** Makes the call itself. */
  readonly ask: () => Promise<unknown>;

  constructor(key: string, ask: () => Promise<unknown>) {
    super('Stripe has to be asked first, with nothing held.');
    this.key = key;
    this.ask = ask;
  }
}

/** The calls that change something at Stripe: what was read before them says nothing about the time after. */
const ACTS: ReadonlySet<string> = new Set(['refund', 'cancelSubscription'] satisfies (keyof StripeCalls)[]);

/** The same calls, each made once for the same thing: for reading, in the course of one pass. */
export function remembering(stripe: StripeCalls): StripeCalls {
  const known = new Map<string, Promise<unknown>>();
  return intercepted(stripe, (name, args, ask) => {
    const key = keyOf(name, args);
    const answer = known.get(key) ?? ask();
    known.set(key, answer);
    // Whoever asked first may have asked in advance, and is not told of a failure twice.
    answer.catch(() => undefined);
    return answer;
  });
}

/** The same calls, with `confirm` before each that changes something at Stripe; where that throws, it is not made. */
export function confirming(stripe: StripeCalls, confirm: () => Promise<void>): StripeCalls {
  return intercepted(stripe, async (name, _args, ask) => {
    if (ACTS.has(name)) await confirm();
    return await ask();
  });
}

/** Answers to what is asked of Stripe while something is being written. */
export type Answers = {
  /**
   * Calls for one try at writing, none of which waits: each is answered from what is known by now, and throws
   * `Unanswered` where nothing is. A try that comes the same way again gets the same answers.
   */
  calls(): StripeCalls;
  /** Asks Stripe what was missing. */
  learn(missing: Unanswered): Promise<void>;
};

export function answersOf(stripe: StripeCalls): Answers {
  const known = new Map<string, unknown>();
  return {
    calls() {
      let acts = 0;
      return intercepted(stripe, async (name, args, ask) => {
        // What is read after an act is read anew.
        const key = `${acts} ${keyOf(name, args)}`;
        if (!known.has(key)) throw new Unanswered(key, ask);
        if (ACTS.has(name)) acts += 1;
        return known.get(key);
      });
    },
    async learn({ key, ask }) {
      known.set(key, await ask());
    },
  };
}

type Intercept = (name: string, args: readonly unknown[], ask: () => Promise<unknown>) => Promise<unknown>;

function intercepted(stripe: StripeCalls, intercept: Intercept): StripeCalls {
  return new Proxy(stripe, {
    get(target, name) {
      const call: unknown = Reflect.get(target, name);
      if (typeof call !== 'function' || typeof name !== 'string') return call;
      return (...args: unknown[]) =>
        intercept(name, args, async () => await Reflect.apply(call, target, args));
    },
  });
}

/** An object of Stripe stands for itself by its id, as it is in the course of one pass. */
function keyOf(name: string, args: readonly unknown[]): string {
  const parts = args.map((arg) =>
    typeof arg === 'object' && arg !== null && 'id' in arg && typeof arg.id === 'string' ? arg.id : arg,
  );
  return JSON.stringify([name, ...parts]);
}
