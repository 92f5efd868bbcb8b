import { oneLine } from './format.ts';
import type { LinkPolicy } from './links.ts';

export type Block =
  | { readonly kind: 'paragraph'; readonly text: string }
  /** Label and value, one under the other. */
  | { readonly kind: 'facts'; readonly rows: readonly (readonly [label: string, value: string])[] }
  /** Only `linkTo` makes these, so that no unchecked URL gets into a mail. */
  | { readonly kind: 'link'; readonly label: string; readonly url: string };

/** A mail before it is laid out; HTML and text are both made of it. */
export type EmailContent = {
  readonly subject: string;
  /** What a list of mails shows beside the subject. */
  readonly preview: string;
  readonly heading: string;
  readonly blocks: readonly Block[];
};

export type EmailContext = {
  readonly links: LinkPolicy;
  /** Where customers of this deployment manage their billing, if it has such a page. */
  readonly billingUrl: string | null;
};

export function paragraph(...sentences: readonly (string | null)[]): Block {
  return { kind: 'paragraph', text: oneLine(sentences.filter((sentence) => sentence !== null).join(' ')) };
}

/** Each label and value becomes one line, so that text of others cannot pass for another fact. */
export function facts(...rows: readonly (readonly [string, string] | null)[]): Block {
  const shown = rows.filter((row) => row !== null);
  return { kind: 'facts', rows: shown.map(([label, value]) => [oneLine(label), oneLine(value)]) };
}

/** A link if its URL may stand in a mail, nothing otherwise. */
export function linkTo(context: EmailContext, label: string, url: string | null): readonly Block[] {
  return url !== null && context.links(url) ? [{ kind: 'link', label, url }] : [];
}

/** A link to where billing is managed, if there is such a page. */
export function manageLink(context: EmailContext, label = 'Manage billing'): readonly Block[] {
  return linkTo(context, label, context.billingUrl);
}
