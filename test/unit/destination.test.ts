import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { z } from 'zod';
import { isLoopbackAddress, isPublicAddress } from '../../server/webhooks/addresses.ts';
import { checkDestination, type DestinationPolicy } from '../../server/webhooks/destination.ts';

const example = z.looseObject({
  url: z.string(),
  why: z.string(),
  expect: z.enum(['refused', 'refused-or-harmless', 'not-followed', 'attempt-failed', 'accepted']),
  dns: z.array(z.string()).optional(),
  dnsHangMs: z.number().optional(),
});
const examples = z
  .object({ refuse: z.array(example), accept: z.array(example) })
  .parse(JSON.parse(readFileSync(new URL('./ssrf-examples.json', import.meta.url), 'utf8')));
type Example = z.infer<typeof example>;

const PUBLIC = '93.184.215.14';

const policy = (members: Partial<DestinationPolicy> = {}): DestinationPolicy => ({
  resolve: async () => [PUBLIC],
  ports: [],
  loopback: false,
  ...members,
});

/** Names without an answer in the example would be public ones: what refuses them must be something else. */
const answering = ({ dns, dnsHangMs }: Example): DestinationPolicy =>
  policy({ resolve: dnsHangMs === undefined ? async () => dns ?? [PUBLIC] : () => new Promise(() => {}) });

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const check = async (terms: DestinationPolicy, url: string) => {
  const checking = checkDestination(terms, url);
  await vi.advanceTimersByTimeAsync(2_000);
  return await checking;
};

describe('examples', () => {
  const refused = examples.refuse.filter((one) => one.expect === 'refused');
  it.each(refused.map((one) => [one.why, one.url, one] as const))(
    'refuses %s: %s',
    async (_why, url, one) => {
      expect(await check(answering(one), url)).toHaveProperty('refused');
    },
  );

  it.each(examples.accept.map((one) => [one.url, one] as const))('accepts %s', async (url, one) => {
    expect(await check(answering(one), url)).toMatchObject({
      address: one.dns?.[0],
      secure: true,
      port: 443,
    });
  });

  it('knows every kind of expectation there is', () => {
    expect(refused.length).toBeGreaterThan(30);
    expect(examples.accept.length).toBeGreaterThan(5);
  });
});

it.each([
  ['https://name@hooks.customer.test/', 'user'],
  ['https://name:word@hooks.customer.test/', 'password'],
  ['https://hooks.customer.test/#part', 'fragment'],
  ['https://hooks.customer.test\\@10.0.0.1/', 'backslash'],
  ['https://hooks.customer.test/a b', 'white space'],
  ['https://hooks.customer.test/\n', 'line break'],
  ['https://hooks.customer.test/ü', 'a letter that would be sent otherwise'],
  ['https://127。0。0。1/', 'full-width dots'],
  [`https://hooks.customer.test/${'x'.repeat(2048)}`, 'length'],
  ['https://localhost/', 'this machine'],
  ['https://LOCALHOST./', 'this machine, written otherwise'],
  ['https://db.localhost/', 'below localhost'],
  ['https://metadata.google.internal/', 'names of a network'],
  ['https://redis/', 'a single label'],
  ['https://hooks.customer.test:8443/', 'another port'],
  ['http://hooks.customer.test/', 'no TLS'],
  ['http://127.0.0.1:3000/', 'this machine without the flag'],
])('refuses %s: %s', async (url) => {
  expect(await check(policy(), url)).toHaveProperty('refused');
});

it('looks a name up once and connects to what was answered', async () => {
  const resolve = vi.fn(async () => [PUBLIC]);
  const found = await check(policy({ resolve }), 'https://hooks.customer.test/in?x=1');
  expect(found).toMatchObject({ address: PUBLIC, hostname: 'hooks.customer.test' });
  expect(resolve.mock.calls).toEqual([['hooks.customer.test']]);
});

it('refuses a name when any of its addresses is not public, and when it has none or no answer', async () => {
  for (const answer of [[PUBLIC, '10.0.0.1'], ['::1', PUBLIC], []]) {
    expect(await check(policy({ resolve: async () => answer }), 'https://a.test/')).toHaveProperty('refused');
  }
  const failing = policy({ resolve: () => Promise.reject(new Error('ENOTFOUND')) });
  expect(await check(failing, 'https://a.test/')).toHaveProperty('refused');
});

it('tells nothing about what a name means inside', async () => {
  const inside = await check(policy({ resolve: async () => ['10.0.0.1'] }), 'https://a.test/');
  const nowhere = await check(policy({ resolve: async () => [] }), 'https://a.test/');
  expect(inside).toEqual(nowhere);
});

it('lets the operator add ports', async () => {
  const found = await check(policy({ ports: [8443] }), 'https://hooks.customer.test:8443/');
  expect(found).toMatchObject({ port: 8443 });
});

it('lets http go to this machine, and nowhere else, in development', async () => {
  const local = policy({ loopback: true, resolve: () => Promise.reject(new Error('not to be asked')) });
  expect(await check(local, 'http://127.0.0.1:3000/in')).toMatchObject({
    address: '127.0.0.1',
    secure: false,
  });
  expect(await check(local, 'http://localhost:3000/in')).toMatchObject({ address: '127.0.0.1' });
  expect(await check(local, 'http://[::1]:3000/in')).toMatchObject({ address: '::1' });
  for (const url of [
    'http://10.0.0.1/',
    'http://hooks.customer.test/',
    'http://169.254.169.254/',
    'https://127.0.0.1/',
  ])
    expect(await check(local, url)).toHaveProperty('refused');
});

it.each([
  '168.63.129.16',
  '::7f00:1',
  '::ffff:127.0.0.1',
  '64:ff9b::a00:1',
  '2001::1',
  '2001:db8::1',
  '2002:7f00:1::',
  '3fff::1',
  'fe80::1%eth0',
  'fd00::1',
  'ff02::1',
  '255.255.255.255',
  '100.64.0.1',
  'nonsense',
  '',
])('does not take %s for public', (address) => {
  expect(isPublicAddress(address)).toBe(false);
});

it.each(['8.8.8.8', '9.255.255.255', '11.0.0.0', '172.32.0.1', '2606:4700:4700::1111', '2a00:1450:4001::1'])(
  'takes %s for public',
  (address) => {
    expect(isPublicAddress(address)).toBe(true);
    expect(isLoopbackAddress(address)).toBe(false);
  },
);

it('never accepts an address written into the URL, in whatever way', async () => {
  vi.useRealTimers();
  const part = fc.oneof(
    fc.nat(255).map(String),
    fc.nat(255).map((n) => `0x${n.toString(16)}`),
    fc.nat(255).map((n) => `0${n.toString(8)}`),
  );
  const host = fc.oneof(
    fc.array(part, { minLength: 1, maxLength: 4 }).map((parts) => parts.join('.')),
    fc.nat(0xffffffff).map(String),
    fc.ipV6().map((address) => `[${address}]`),
  );
  await fc.assert(
    fc.asyncProperty(host, async (name) => {
      expect(await checkDestination(policy(), `https://${name}/`)).toHaveProperty('refused');
    }),
  );
});
