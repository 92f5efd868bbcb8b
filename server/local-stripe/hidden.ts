import type { Stored } from './disk.ts';
import type { Store } from './store.ts';

/** Values Stripe never shows (webhook secrets, how a card behaves, faults), under a name of ours. */
export interface Hidden {
  get<T>(name: string, id: string): T | undefined;
  put<T extends object>(name: string, id: string, value: T): void;
  remove(name: string, id: string): void;
  all<T>(name: string): readonly { id: string; value: T }[];
}

/** Keeps them in the store, beside Stripe's objects. */
export function hiddenIn(store: Store): Hidden {
  const kind = (name: string): string => `hidden.${name}`;
  type Box = Stored & { readonly value: unknown };
  return {
    get: <T>(name: string, id: string) =>
      (store.get(kind(name), id) as Box | undefined)?.value as T | undefined,
    put(name, id, value) {
      const box: Box = { id, value };
      store.put(kind(name), box);
    },
    remove: (name, id) => store.remove(kind(name), id),
    all: <T>(name: string) =>
      [...store.oldestFirst(kind(name))].map((box) => ({ id: box.id, value: (box as Box).value as T })),
  };
}
