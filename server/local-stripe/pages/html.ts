/** Markup that is safe to send: made only by `html`, which escapes every value that is not itself markup. */
export class Html {
  readonly source: string;

  constructor(source: string) {
    this.source = source;
  }
}

type Part = Html | string | number | null | false | readonly Part[];

/** Tagged template for markup. Strings and numbers are escaped, null and false are nothing, lists are joined. */
export function html(strings: TemplateStringsArray, ...parts: readonly Part[]): Html {
  let source = strings[0] ?? '';
  for (const [index, part] of parts.entries()) source += render(part) + (strings[index + 1] ?? '');
  return new Html(source);
}

function render(part: Part): string {
  if (part instanceof Html) return part.source;
  if (part === null || part === false) return '';
  if (typeof part === 'string') return escapeHtml(part);
  if (typeof part === 'number') return String(part);
  return part.map(render).join('');
}

/** Escapes for element content and for attributes in either kind of quotes. */
function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}
