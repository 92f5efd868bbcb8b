import type Stripe from 'stripe';

/** What became of one thing at Stripe. `wrong` is for what a person has to decide, and is left as it is. */
export type Step = {
  did: 'made' | 'reactivated' | 'changed' | 'left' | 'wrong';
  what: string;
  id: string;
  /** Why, or what is worth knowing about it. */
  note: string;
};

/** One run over a Stripe account. */
export type Run = {
  readonly stripe: Stripe;
  /** Told of each step once it is done. */
  readonly tell: (step: Step) => void;
  /** Only says what it would do. */
  readonly dryRun: boolean;
};

/** The id of what a dry run would make. */
export const NOT_MADE = '(dry run)';

/** Makes something and answers its id. */
export async function make(
  { tell, dryRun }: Run,
  { did = 'made', what, note = '' }: { did?: Step['did']; what: string; note?: string },
  work: () => Promise<{ id: string }>,
): Promise<string> {
  const id = dryRun ? NOT_MADE : (await work()).id;
  tell({ did, what, id, note });
  return id;
}

/** Changes something that is there. */
export async function change({ tell, dryRun }: Run, step: Step, work: () => Promise<unknown>): Promise<void> {
  if (!dryRun) await work();
  tell(step);
}
