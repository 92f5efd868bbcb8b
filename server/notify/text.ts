import type { Block, EmailContent } from './content.ts';
import { FOOTER } from './layout.ts';

/** The mail as plain text: the same words in the same order, links written out. */
export function plainText({ heading, blocks }: EmailContent): string {
  return [heading, ...blocks.map(blockText), `-- \n${FOOTER}`].join('\n\n').concat('\n');
}

function blockText(block: Block): string {
  switch (block.kind) {
    case 'paragraph':
      return block.text;
    case 'facts':
      return block.rows.map(([label, value]) => `${label}: ${value}`).join('\n');
    case 'link':
      return `${block.label}:\n${block.url}`;
  }
}
