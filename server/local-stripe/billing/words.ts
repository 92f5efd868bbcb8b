/** The word a value is, or undefined: Stripe's own types leave their lists of words open. */
export function wordOf<const W extends readonly string[]>(words: W, value: unknown): W[number] | undefined {
  return words.find((word) => word === value);
}

export const INTERVALS = ['day', 'week', 'month', 'year'] as const;
export const PRORATIONS = ['create_prorations', 'none', 'always_invoice'] as const;
