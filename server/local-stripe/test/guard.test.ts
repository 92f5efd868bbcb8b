import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Stripe from 'stripe';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { z } from 'zod';
import { type LocalStripe, startLocalStripe } from '../local-stripe.ts';

let localStripe: LocalStripe;
beforeAll(async () => {
  localStripe = await startLocalStripe({ port: 0, dataPath: ':memory:' });
});
afterAll(() => localStripe.close());

type Answer = { status: number; body: string };

/** A request as a browser sends it for a page; `fetch` would not let us name another host. */
async function send(method: string, path: string, headers: Record<string, string>): Promise<Answer> {
  const content = method === 'POST' ? '{}' : '';
  const sent = request({ host: '127.0.0.1', port: localStripe.port, method, path, headers, agent: false });
  sent.end(content);
  const [response] = await once(sent, 'response');
  let body = '';
  for await (const chunk of response) body += chunk;
  return { status: response.statusCode, body };
}

const own = (): string => `127.0.0.1:${localStripe.port}`;
/** What a program with every right sends: whoever is refused with it is refused for where it comes from. */
const RIGHTS = { authorization: 'Bearer sk_test_local_stripe', 'content-type': 'application/json' };
const isChange = ({ method }: { method: string }): boolean => method !== 'GET' && method !== 'HEAD';
const pathOf = (url: string): string => url.replace(/:\w+/g, 'x').replace('*', 'x');

const BANK = '/_sandbox/authenticate/:intent';

/** Names and pages of somebody else's, as browsers tell of them. */
const STRANGERS: [string, () => Record<string, string>][] = [
  ['by a name that was pointed here', () => ({ host: `evil.example:${localStripe.port}` })],
  ['by a name that begins like ours', () => ({ host: '127.0.0.1.evil.example' })],
  ['by a name that ends like ours', () => ({ host: 'evillocalhost' })],
  ['by another way to write a number', () => ({ host: `0.0.0.0:${localStripe.port}` })],
];
const PAGES: [string, () => Record<string, string>][] = [
  ['another site', () => ({ host: own(), 'sec-fetch-site': 'cross-site' })],
  ['another port', () => ({ host: own(), 'sec-fetch-site': 'same-site' })],
  ['another origin', () => ({ host: own(), origin: 'https://evil.example' })],
  ['no origin', () => ({ host: own(), origin: 'null' })],
];

describe('every door', () => {
  it('there are', () => {
    const urls = localStripe.doors.map(({ url }) => url);
    expect(localStripe.doors.length).toBeGreaterThan(120);
    for (const known of ['/v1/customers', '/_sandbox', '/emails', '/receiver/:mode', '/console', '/mailbox'])
      expect(urls).toContain(known);
  });

  it.each(STRANGERS)('refuses whoever comes %s', async (_, headers) => {
    const open: string[] = [];
    for (const { method, url } of localStripe.doors) {
      const { status } = await send(method, pathOf(url), { ...RIGHTS, ...headers() });
      if (status !== 403) open.push(`${method} ${url} ${status}`);
    }
    expect(open).toEqual([]);
    expect((await send('GET', '/nowhere', { ...RIGHTS, ...headers() })).status).toBe(403);
  });

  it.each(PAGES)('takes no change from a page of %s', async (_, headers) => {
    const open: string[] = [];
    for (const { method, url } of localStripe.doors.filter(isChange)) {
      const { status } = await send(method, pathOf(url), { ...RIGHTS, ...headers() });
      if (status !== 403) open.push(`${method} ${url} ${status}`);
    }
    expect(open).toEqual([]);
  });

  it.each(PAGES)('gives a page of %s nothing to read but what it may link to', async (_, headers) => {
    const links: string[] = [];
    for (const { method, url } of localStripe.doors.filter((door) => !isChange(door))) {
      const { status } = await send(method, pathOf(url), { ...RIGHTS, ...headers() });
      if (status !== 403) links.push(url);
    }
    // Pages for people, the bank's among them, and nothing that a program would read.
    expect(links).toEqual(expect.arrayContaining(['/console', BANK]));
    expect(links.filter((url) => url !== BANK && /^\/(v1|_sandbox|emails|receiver)/.test(url))).toEqual([]);
  });

  it.each([
    ['a program', () => ({ host: own() })],
    ['a program that says localhost', () => ({ host: `localhost:${localStripe.port}` })],
    ['a program that says [::1]', () => ({ host: `[::1]:${localStripe.port}` })],
    ['a name of this machine', () => ({ host: 'stripe.localhost' })],
    ['our own page', () => ({ host: own(), origin: `http://${own()}`, 'sec-fetch-site': 'same-origin' })],
    ['the address bar', () => ({ host: own(), 'sec-fetch-site': 'none' })],
  ])('lets %s in', async (_, headers) => {
    for (const [method, url] of [
      ['GET', '/v1/customers'],
      ['GET', '/_sandbox'],
      ['GET', '/console'],
      ['POST', '/_sandbox/deliveries/wait'],
      ['POST', '/receiver/200'],
    ] as const)
      expect((await send(method, url, { ...RIGHTS, ...headers() })).status, url).toBe(200);
  });

  it('tells a program in Stripe’s way and a person on a page', async () => {
    const headers = { ...RIGHTS, host: 'evil.example' };
    expect(JSON.parse((await send('GET', '/v1/customers', headers)).body)).toEqual({
      error: { type: 'invalid_request_error', message: expect.stringContaining('own address') },
    });
    expect((await send('GET', '/console', headers)).body).toContain('<h1>Wrong address</h1>');
  });

  it('is guarded for the websocket of the CLI as well', async () => {
    const answer = await fetch(`${localStripe.url}/v1/stripecli/sessions`, {
      method: 'POST',
      headers: { authorization: RIGHTS.authorization },
    });
    const { websocket_id: id, websocket_url: url } = z
      .object({ websocket_id: z.string(), websocket_url: z.string() })
      .parse(await answer.json());
    const connect = async (headers: Record<string, string>): Promise<number> => {
      const socket = new WebSocket(url, { headers: { 'websocket-id': id, ...headers } });
      try {
        return await Promise.race([
          once(socket, 'open').then(() => 101),
          new Promise<number>((resolve) =>
            socket.once('unexpected-response', (_, response) => resolve(response.statusCode ?? 0)),
          ),
        ]);
      } finally {
        socket.on('error', () => {});
        socket.terminate();
      }
    };
    expect(await connect({})).toBe(101);
    expect(await connect({ host: 'evil.example' })).toBe(403);
    expect(await connect({ origin: 'https://evil.example' })).toBe(403);
  });
});

describe('addresses that a browser is led to', () => {
  const stripe = () =>
    new Stripe('sk_test_local_stripe', {
      host: '127.0.0.1',
      port: localStripe.port,
      protocol: 'http',
      maxNetworkRetries: 0,
    });
  const HOSTILE = [
    'javascript:alert(1)',
    'JavaScript:alert(1)',
    'java\tscript:alert(1)',
    ' javascript://example.com/%0aalert(1)',
    'javascript://example.com/%0aalert(1)',
    'data:text/html,<script>alert(1)</script>',
    'blob:https://your.app/1',
    'vbscript:msgbox(1)',
    'file:///etc/passwd',
    'your.app/success',
    '/success',
    '//your.app/success',
    'https://',
    'mailto:a@b.test',
  ];
  const refusal = (param: string) => ({ statusCode: 400, code: 'url_invalid', param });

  it.each(HOSTILE)('are not %j', async (address) => {
    const { id: customer } = await stripe().customers.create();
    const { id: product } = await stripe().products.create({ name: 'Pack' });
    const { id: price } = await stripe().prices.create({ product, currency: 'usd', unit_amount: 299 });
    const session = (urls: object) =>
      stripe().checkout.sessions.create({
        mode: 'payment',
        customer,
        line_items: [{ price, quantity: 1 }],
        success_url: 'https://your.app/',
        ...urls,
      });
    await expect(session({ success_url: address })).rejects.toMatchObject(refusal('success_url'));
    await expect(session({ cancel_url: address })).rejects.toMatchObject(refusal('cancel_url'));
    const portal = stripe().billingPortal;
    await expect(portal.sessions.create({ customer, return_url: address })).rejects.toMatchObject(
      refusal('return_url'),
    );
    await expect(
      portal.configurations.create({
        features: { invoice_history: { enabled: true } },
        default_return_url: address,
      }),
    ).rejects.toMatchObject(refusal('default_return_url'));
    const intent = { amount: 299, currency: 'usd', payment_method: 'pm_card_visa', confirm: true };
    await expect(stripe().paymentIntents.create({ ...intent, return_url: address })).rejects.toMatchObject(
      refusal('return_url'),
    );
    await expect(
      stripe().setupIntents.create({
        payment_method: 'pm_card_visa',
        customer,
        confirm: true,
        return_url: address,
      }),
    ).rejects.toMatchObject(refusal('return_url'));
  });

  it('are those of web sites and of apps', async () => {
    const { id: product } = await stripe().products.create({ name: 'Pack' });
    const { id: price } = await stripe().prices.create({ product, currency: 'usd', unit_amount: 299 });
    for (const success_url of [
      'https://your.app/success?session_id={CHECKOUT_SESSION_ID}',
      'http://localhost:3000/done',
      'myapp://billing/success',
    ]) {
      const made = await stripe().checkout.sessions.create({
        mode: 'payment',
        line_items: [{ price, quantity: 1 }],
        success_url,
      });
      expect(made.success_url).toBe(success_url);
    }
  });
});

it('keeps its state for its owner alone, whatever the umask and whoever made the file', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'local-stripe-mode-'));
  const umask = process.umask(0);
  try {
    const kept = await startLocalStripe({ port: 0, dataPath: join(folder, 'stripe.db') });
    kept.world.hidden.put('webhook_secret', 'we_1', { secret: 'whsec_1' });
    const modes = readdirSync(folder).map((name) => [name, statSync(join(folder, name)).mode & 0o777]);
    await kept.close();
    expect(modes.length).toBeGreaterThan(1);
    expect(modes.filter(([, mode]) => mode !== 0o600)).toEqual([]);
  } finally {
    process.umask(umask);
    rmSync(folder, { recursive: true });
  }
});
