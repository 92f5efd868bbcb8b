import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { parseAllowlist } from '../../server/billing/redirects.ts';
import { ProblemError } from '../../shared/errors.ts';

const example = z.object({
  input: z.unknown(),
  why: z.string(),
  allowlist: z.array(z.string()).optional(),
});
const examples = z
  .object({ allowlist: z.array(z.string()), refuse: z.array(example), accept: z.array(example) })
  .parse(JSON.parse(readFileSync(new URL('./redirect-examples.json', import.meta.url), 'utf8')));

const policyOf = ({ allowlist }: z.infer<typeof example>) => parseAllowlist(allowlist ?? examples.allowlist);

describe('the examples', () => {
  it.each(examples.refuse)('refuses $input: $why', (one) => {
    expect(() => policyOf(one).check('success_url', one.input)).toThrow(ProblemError);
  });

  it.each(examples.accept)('accepts $input unchanged: $why', (one) => {
    expect(policyOf(one).check('success_url', one.input)).toBe(one.input);
  });
});

it('names the field, and the code that tells this refusal from a malformed value', () => {
  const refusal = (() => {
    try {
      return parseAllowlist(['https://your.app']).check('cancel_url', 'https://evil.com/');
    } catch (error) {
      return error;
    }
  })();
  expect(refusal).toBeInstanceOf(ProblemError);
  expect(refusal instanceof ProblemError && refusal.toProblem('req_1')).toMatchObject({
    status: 400,
    type: 'https://errors.driftstack.dev/validation-failed',
    code: 'redirect_url_not_allowed',
    errors: [{ field: 'cancel_url' }],
  });
});

it('refuses everything when the list is empty', () => {
  expect(parseAllowlist([]).allows('https://your.app/')).toBe(false);
});

it.each([
  ['https://your.app/billing', true],
  ['https://your.app/billing/', true],
  ['https://your.app/billing/done?x=1#y', true],
  ['https://your.app/billing?x=1', true],
  ['https://your.app/billings', false],
  ['https://your.app/', false],
  ['https://your.app', false],
  ['https://your.app/billing/%2e%2e/admin', false],
  ['https://your.app/billing/x%2fy', false],
  ['https://your.app/billing//x', false],
  ['https://your.app/billing/./x', false],
])('below the prefix /billing, %s is allowed: %s', (url, allowed) => {
  expect(parseAllowlist(['https://your.app/billing']).allows(url)).toBe(allowed);
});

it.each([
  ['https://a.example.com/', true],
  ['https://a.b.example.com/', false],
  ['https://example.com/', false],
  ['https://aexample.com/', false],
  ['https://.example.com/', false],
])('the wildcard stands for exactly one label: %s is allowed: %s', (url, allowed) => {
  expect(parseAllowlist(['https://*.example.com']).allows(url)).toBe(allowed);
});

it.each([
  `https://your.app/${'a'.repeat(2048)}`,
  'https://your.app/%0d%0aSet-Cookie:a',
  'https://your.app/?a=%00',
  'https://your.app/%7f',
  'https://your.app/%zz',
  'https://your.app/%2{CHECKOUT_SESSION_ID}e',
  'https://your.app/{OTHER}',
  'https://your.app/a#b#c',
  'https://your.app./',
  'http://your.app/',
  'javascript://your.app/%0aalert(1)',
  'http://0x7f.0.0.1:3000/',
  'http://2130706433:3000/',
  'https://your.app:/x',
  ['https://your.app/'],
  { toString: () => 'https://your.app/' },
  undefined,
  7,
])('refuses %j', (url) => {
  const policy = parseAllowlist(['https://your.app', 'http://127.0.0.1:3000']);
  expect(policy.allows(url)).toBe(false);
});

it('allows any port of this machine only when asked to', () => {
  expect(parseAllowlist([]).allows('http://127.0.0.1:5173/')).toBe(false);
  const local = parseAllowlist([], { anyLoopbackPort: true });
  expect(local.allows('http://127.0.0.1:5173/done?s={CHECKOUT_SESSION_ID}')).toBe(true);
  expect(local.allows('http://localhost/')).toBe(true);
  expect(local.allows('https://your.app/')).toBe(false);
});

it.each([
  '',
  'your.app',
  '*',
  'https://*',
  'https://*.com',
  'https://*.*.example.com',
  'https://a.*.example.com',
  'https://your.app?x=1',
  'https://your.app#x',
  'https://user@your.app',
  'https://your.app:99999',
  'https://your.app/a/../b',
  'https://your.app/{CHECKOUT_SESSION_ID}',
  'https://*.127.0.0.1',
  // Anybody can have a name below these: https://publicsuffix.org/list/public_suffix_list.dat
  'https://*.co.uk',
  'https://*.com.au',
  'https://*.github.io',
  'https://*.vercel.app',
  'https://*.herokuapp.com',
  'https://*.s3.amazonaws.com',
  'https://*.GitHub.io/app',
  'https://*.compute.amazonaws.com',
  'http://your.app',
  'ftp://your.app',
  'null',
])('stops at the bad entry "%s" and names it', (entry) => {
  expect(() => parseAllowlist(['https://fine.app', entry])).toThrow(`"${entry}"`);
});

it.each([
  'https://*.your-app.co.uk',
  'https://*.you.github.io',
  'https://*.corp.internal',
  'https://*.your.app',
])('takes the wildcard %s, below which names are those of one owner', (entry) => {
  expect(parseAllowlist([entry]).allows(entry.replace('*', 'a'))).toBe(true);
});

describe('below a path prefix', () => {
  const policy = parseAllowlist(['https://your.app/billing']);

  it.each([
    '%252e%252e/admin',
    '%25252e%25252e/admin',
    '%25%32%65%25%32%65/admin',
    'x%252fy',
    'x%255c..%255cadmin',
    '%c0%ae%c0%ae/admin',
    '%c0%af',
    '%e0%80%ae',
    '%ff',
    '%ef%bc%8e%ef%bc%8e/admin',
    'x%ef%bc%8fadmin',
    'x%ef%bc%bcadmin',
    'x%253badmin',
    'x%250d%250aSet-Cookie:a',
    '%2500',
    `%${'25'.repeat(40)}2e%${'25'.repeat(40)}2e/admin`,
  ])('%s is refused: what stands behind may read it as another path', (rest) => {
    expect(policy.allows(`https://your.app/billing/${rest}`)).toBe(false);
  });

  it.each(['100%25', 'a%20b', 'caf%C3%A9', '%E6%97%A5', '%25x', '%2525', 'x?next=%252e%252e%252f'])(
    '%s is a path like any other',
    (rest) => {
      expect(policy.allows(`https://your.app/billing/${rest}`)).toBe(true);
    },
  );
});

describe('a template that was never filled in', () => {
  it.each([
    'https://your.app/$' + '{CHECKOUT_SESSION_ID}/done',
    'https://your.app/?s=%24{CHECKOUT_SESSION_ID}',
    'https://your.app/?s={checkout_session_id}',
    'https://your.app/?s={{CHECKOUT_SESSION_ID}}',
    'https://your.app/?s={CHECKOUT_SESSION_ID',
    'https://your.app/?s=%7BCHECKOUT_SESSION_ID%7D',
    'https://your.app/?s={SESSION}',
  ])('%s is refused, and says what Stripe replaces', (url) => {
    const policy = parseAllowlist(['https://your.app']);
    expect(() => policy.check('success_url', url)).toThrow(
      /success_url holds a template .*\{CHECKOUT_SESSION_ID\}/,
    );
  });

  it.each([
    'https://your.app/?s={CHECKOUT_SESSION_ID}',
    'https://your.app/{CHECKOUT_SESSION_ID}?s={CHECKOUT_SESSION_ID}',
    'https://your.app/done#{CHECKOUT_SESSION_ID}',
    'https://your.app/?price=$5&s={CHECKOUT_SESSION_ID}',
  ])("%s is Stripe's own", (url) => {
    expect(parseAllowlist(['https://your.app']).check('success_url', url)).toBe(url);
  });
});

describe('for whatever text', () => {
  const list = [
    'https://your.app',
    'https://*.example.com',
    'http://localhost:3000',
    'https://pre.app/billing',
  ];
  const policy = parseAllowlist(list);
  const piece = fc.constantFrom(
    'https://',
    'http://',
    'your.app',
    '.example.com',
    'a',
    'localhost',
    ':3000',
    ':443',
    '/',
    '//',
    '\\',
    '@',
    '?',
    '#',
    '%2e',
    '%2F',
    '%00',
    '..',
    ';',
    '{CHECKOUT_SESSION_ID}',
    '{',
    '}',
    '[',
    ']',
    ' ',
    '\n',
    'pre.app',
    '/billing',
    'é',
    'evil.com',
    '.',
    ':',
    '-',
    'HTTPS://',
    'YOUR.APP',
    'blob:',
    'javascript:',
    '\u2044',
    '*',
  );
  const text = fc.oneof(
    fc.array(piece, { maxLength: 8 }).map((pieces) => pieces.join('')),
    fc
      .tuple(
        fc.constantFrom('https://your.app', 'https://a.example.com', 'https://pre.app/billing'),
        fc.array(piece, { maxLength: 4 }),
      )
      .map(([start, rest]) => start + rest.join('')),
    fc.webUrl({ withFragments: true, withQueryParameters: true }),
    fc.string({ unit: 'binary' }),
  );
  const origins =
    /^(https:\/\/your\.app|https:\/\/[a-z0-9-]+\.example\.com|http:\/\/localhost:3000|https:\/\/pre\.app)$/;

  it('what is accepted has an origin of the list, is free of credentials, and stays accepted', () => {
    let accepted = 0;
    fc.assert(
      fc.property(text, (url) => {
        if (!policy.allows(url)) return;
        accepted += 1;
        const parsed = new URL(url);
        expect(parsed.origin).toMatch(origins);
        expect(parsed.username + parsed.password).toBe('');
        expect(parsed.hostname).not.toContain('CHECKOUT');
        const once = policy.check('success_url', url);
        expect(once).toBe(url);
        expect(policy.check('success_url', once)).toBe(once);
        expect(policy.allows(parsed.href.replaceAll('%7B', '{').replaceAll('%7D', '}'))).toBe(true);
      }),
      { numRuns: 5_000 },
    );
    expect(accepted).toBeGreaterThan(100);
  });

  it('below a prefix the path stays there after normalising', () => {
    const prefixed = parseAllowlist(['https://pre.app/billing']);
    const below = fc.array(piece, { maxLength: 5 }).map((rest) => `https://pre.app/billing${rest.join('')}`);
    fc.assert(
      fc.property(below, (url) => {
        if (prefixed.allows(url)) expect(new URL(url).pathname).toMatch(/^\/billing(\/|$)/);
      }),
      { numRuns: 2_000 },
    );
  });
});
