import { Body } from '@react-email/body';
import { Button } from '@react-email/button';
import { Container } from '@react-email/container';
import { Head } from '@react-email/head';
import { Heading } from '@react-email/heading';
import { Hr } from '@react-email/hr';
import { Html } from '@react-email/html';
import { Preview } from '@react-email/preview';
import { Section } from '@react-email/section';
import { Text } from '@react-email/text';
import { createElement, type ReactNode } from 'react';
import type { Block, EmailContent } from './content.ts';

/** The last words of every mail. */
export const FOOTER = 'Driftstack sends this because of your billing account. All times are UTC.';

/** The one look of all mails: a single column that fits 320 px, dark where the reader is. */
export function Layout({ content }: { content: EmailContent }): ReactNode {
  const { subject, preview, heading, blocks } = content;
  return createElement(
    Html,
    { lang: 'en' },
    createElement(
      Head,
      null,
      createElement('meta', { name: 'viewport', content: 'width=device-width, initial-scale=1' }),
      createElement('meta', { name: 'color-scheme', content: 'light dark' }),
      createElement('meta', { name: 'supported-color-schemes', content: 'light dark' }),
      createElement('title', null, subject),
      createElement('style', null, STYLE),
    ),
    createElement(Preview, null, preview),
    createElement(
      Body,
      { className: 'page', style: PAGE },
      createElement(
        Container,
        { className: 'card', style: CARD },
        createElement(Text, { className: 'quiet', style: WORDMARK }, 'Driftstack'),
        createElement(Heading, { as: 'h1', className: 'ink', style: HEADING }, heading),
        ...blocks.map((block, index) => createElement(BlockElement, { key: index, block })),
        createElement(Hr, { className: 'rule', style: RULE }),
        createElement(Text, { className: 'quiet', style: SMALL }, FOOTER),
      ),
    ),
  );
}

function BlockElement({ block }: { block: Block }): ReactNode {
  switch (block.kind) {
    case 'paragraph':
      return createElement(Text, { className: 'ink', style: PARAGRAPH }, block.text);
    case 'facts':
      return createElement(
        'table',
        { border: 0, cellPadding: 0, cellSpacing: 0, width: '100%', style: FACTS },
        createElement('tbody', null, ...block.rows.map(factRow)),
      );
    case 'link':
      return createElement(
        Section,
        { style: ACTION },
        createElement(Button, { href: block.url, className: 'button', style: BUTTON }, block.label),
      );
  }
}

function factRow([label, value]: readonly [string, string], index: number): ReactNode {
  return createElement(
    'tr',
    { key: index },
    createElement('th', { scope: 'row', className: 'quiet rule', style: LABEL }, label),
    createElement('td', { className: 'ink rule', style: VALUE }, value),
  );
}

// Mail programs that know nothing of dark mode read the inline styles below; the others let this win.
const STYLE = `
:root { color-scheme: light dark; supported-color-schemes: light dark; }
@media (prefers-color-scheme: dark) {
  .page, .page > table > tbody > tr > td { background-color: #16181d !important; }
  .card { background-color: #1f2229 !important; border-color: #343943 !important; }
  .ink { color: #eceef2 !important; }
  .quiet { color: #a6adba !important; }
  .rule { border-color: #343943 !important; }
  .button { background-color: #9db8ff !important; color: #10131a !important; }
}
@media (max-width: 480px) { .card { border-radius: 0 !important; } }
`;

const FONT = "-apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif";
const INK = '#1b1f27';
const QUIET = '#596070';
const LINE = '#dfe2e8';

const PAGE = { backgroundColor: '#f3f4f6', fontFamily: FONT, margin: 0, padding: '24px 0' };
const CARD = {
  backgroundColor: '#ffffff',
  border: `1px solid ${LINE}`,
  borderRadius: '10px',
  maxWidth: '560px',
  padding: '28px 24px',
};
const WORDMARK = { color: QUIET, fontSize: '14px', fontWeight: 600, lineHeight: '20px', margin: '0 0 20px' };
const HEADING = { color: INK, fontSize: '22px', fontWeight: 600, lineHeight: '30px', margin: '0 0 12px' };
const PARAGRAPH = { color: INK, fontSize: '16px', lineHeight: '25px', margin: '0 0 20px' };
const FACTS = { margin: '0 0 24px' };
const CELL = {
  borderTop: `1px solid ${LINE}`,
  fontSize: '15px',
  lineHeight: '22px',
  padding: '10px 0',
  verticalAlign: 'top',
};
const LABEL = { ...CELL, color: QUIET, fontWeight: 400, paddingRight: '16px', textAlign: 'left' as const };
const VALUE = {
  ...CELL,
  color: INK,
  fontWeight: 600,
  overflowWrap: 'anywhere' as const,
  textAlign: 'right' as const,
};
const ACTION = { margin: '0 0 28px' };
const BUTTON = {
  backgroundColor: '#2447b8',
  borderRadius: '8px',
  color: '#ffffff',
  display: 'inline-block',
  fontSize: '16px',
  fontWeight: 600,
  lineHeight: '24px',
  padding: '11px 20px',
  textDecoration: 'none',
};
const RULE = { borderColor: LINE, margin: '0 0 16px' };
const SMALL = { color: QUIET, fontSize: '13px', lineHeight: '20px', margin: 0 };
