import type Stripe from 'stripe';
import type { World } from '../world.ts';
import { idOf } from './customers.ts';

/** Stripe shows so many lines within an invoice and sets `has_more`; the others are read from its list of lines. */
const SHOWN = 10;

/** An answer or an event's object with no more than the first ten lines in each invoice of it. */
export function withFirstLines<T>(value: T): T {
  if (typeof value !== 'object' || value === null) return value;
  // What comes back has the shape of what went in.
  if (Array.isArray(value)) return mapped(value) as T;
  const inner = mappedObject(value);
  return isLong(inner) ? shortened(inner) : inner;
}

function mapped(values: readonly unknown[]): readonly unknown[] {
  const short = values.map(withFirstLines);
  return short.some((value, at) => value !== values[at]) ? short : values;
}

function mappedObject<T extends object>(value: T): T {
  let changed: Record<string, unknown> | null = null;
  for (const [name, member] of Object.entries(value)) {
    if (typeof member !== 'object' || member === null) continue;
    const short: unknown = withFirstLines(member);
    if (short !== member) changed = { ...(changed ?? value), [name]: short };
  }
  return changed === null ? value : (changed as T);
}

type Long = { lines: Stripe.ApiList<Stripe.InvoiceLineItem> };

function isLong<T extends object>(value: T): value is T & Long {
  if (Reflect.get(value, 'object') !== 'invoice') return false;
  const lines: unknown = Reflect.get(value, 'lines');
  return typeof lines === 'object' && lines !== null && 'data' in lines && Array.isArray(lines.data)
    ? lines.data.length > SHOWN
    : false;
}

function shortened<T extends Long>(invoice: T): T {
  return {
    ...invoice,
    lines: { ...invoice.lines, data: invoice.lines.data.slice(0, SHOWN), has_more: true },
  };
}

/** Keeps the lines of a customer's newest preview that shows not all of them: it is stored nowhere else. */
export function keepLines(world: World, { id, customer, lines }: Stripe.Invoice): void {
  const owner = idOf(customer);
  if (lines.data.length > SHOWN && owner !== null)
    world.hidden.put<Kept>('preview_lines', owner, { id, lines: lines.data });
}

/** All lines of an invoice, or of a preview whose lines were kept; undefined for what is neither. */
export function allLines(world: World, id: string): readonly Stripe.InvoiceLineItem[] {
  const kept = world.hidden.all<Kept>('preview_lines').find(({ value }) => value.id === id);
  return kept?.value.lines ?? world.get('invoice', id, 'invoice').lines.data;
}

type Kept = { readonly id: string; readonly lines: readonly Stripe.InvoiceLineItem[] };
