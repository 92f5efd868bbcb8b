import type { ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import type { Destination } from '../../server/webhooks/destination.ts';
import { type Connect, createPoster, type Poster } from '../../server/webhooks/post.ts';
import { CERTIFICATE, EXPIRED_CERTIFICATE, TEST_KEY } from '../support/certificates.ts';

/** Nothing is ever sent there: the connector of these tests leads to a server of ours. */
const ADDRESS = '93.184.215.14';

type Behaviour = (response: ServerResponse, socket: TLSSocket) => void;

const WHOLE_KIB = 256;

const BEHAVIOURS: Readonly<Record<string, Behaviour>> = {
  '/ok': (response) => response.end('fine'),
  '/303': (response) =>
    response.writeHead(303, { location: 'http://169.254.169.254/latest/meta-data/' }).end(),
  '/refresh': (response) => response.writeHead(200, { refresh: '0;url=http://127.0.0.1/' }).end('see'),
  '/rst': (response, socket) => {
    response.writeHead(200, { 'content-length': '100' }).write('half');
    setTimeout(() => socket.destroy(), 20);
  },
  '/chunk-ext': (_response, socket) =>
    socket.write(
      `HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;${'x'.repeat(64 * 1024)}\r\na\r\n0\r\n\r\n`,
    ),
  '/garbage': (_response, socket) => socket.end('not http at all\r\n\r\n'),
  '/large': (response) => response.end('x'.repeat(WHOLE_KIB * 1024)),
  '/endless': (response) => {
    const writing = setInterval(() => response.write('x'.repeat(8 * 1024)), 1);
    response.on('close', () => clearInterval(writing));
  },
  '/continue': (_response, socket) => {
    const writing = setInterval(() => socket.write('HTTP/1.1 100 Continue\r\n\r\n'), 10);
    socket.on('close', () => clearInterval(writing));
  },
  '/trickle': (response) => {
    const writing = setInterval(() => response.write('x'), 100);
    response.on('close', () => clearInterval(writing));
  },
  '/nul': (response) => response.end(Buffer.from([0x61, 0x00, 0xff, 0x62])),
};

const servers: Server[] = [];
const posters: Poster[] = [];
const requests: {
  path: string | undefined;
  host: string | undefined;
  servername: unknown;
  authorization: unknown;
}[] = [];

async function serve(cert: string): Promise<number> {
  const server = createServer({ key: TEST_KEY, cert }, (request, response) => {
    // Behind a TLS server every socket is one of TLS.
    const socket = request.socket as TLSSocket;
    const { host, authorization } = request.headers;
    requests.push({ path: request.url, host, servername: Reflect.get(socket, 'servername'), authorization });
    request.resume().on('end', () => BEHAVIOURS[request.url?.split('?')[0] ?? '']?.(response, socket));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  servers.push(server);
  // A server that listens on a port has an address with one.
  return (server.address() as AddressInfo).port;
}

let valid: number;
let expired: number;

beforeAll(async () => {
  valid = await serve(CERTIFICATE);
  expired = await serve(EXPIRED_CERTIFICATE);
});
afterEach(() => {
  for (const poster of posters.splice(0)) poster.close();
  requests.length = 0;
});
afterAll(() => {
  for (const server of servers) {
    server.close();
    server.closeAllConnections();
  }
});

/** Leads every connection to a server of ours and remembers where it was to go. */
function posting(port = valid, ca = [CERTIFICATE, EXPIRED_CERTIFICATE]) {
  const connections: Parameters<Connect>[0][] = [];
  const poster = createPoster((to) => {
    connections.push(to);
    return connectTls({ host: '127.0.0.1', port, ca, servername: to.servername ?? '' });
  });
  posters.push(poster);
  const post = (path: string, hostname = 'hooks.customer.test') =>
    poster.post(destination(path, hostname), { 'x-test': '1' }, '{"a":1}');
  return { post, connections };
}

const destination = (path: string, hostname: string): Destination => ({
  url: new URL(`https://${hostname}${path}`),
  address: ADDRESS,
  hostname,
  port: 443,
  secure: true,
});

const FAILED = { status: null, excerpt: null, error: 'There was no whole answer in time.' };

it('connects to the checked address, with the name for TLS and Host, and carries no credentials', async () => {
  const { post, connections } = posting();
  expect(await post('/ok?x=1')).toMatchObject({ status: 200, excerpt: 'fine', error: null });
  expect(connections).toEqual([{ address: ADDRESS, port: 443, servername: 'hooks.customer.test' }]);
  expect(requests).toEqual([
    {
      path: '/ok?x=1',
      host: 'hooks.customer.test',
      servername: 'hooks.customer.test',
      authorization: undefined,
    },
  ]);
});

it('keeps a connection for the next delivery, and connects anew when the other side has closed it', async () => {
  const { post, connections } = posting();
  await post('/ok');
  await post('/ok');
  expect(connections).toHaveLength(1);
  for (const server of servers) server.closeAllConnections();
  expect(await post('/ok')).toMatchObject({ status: 200 });
  expect(connections).toHaveLength(2);
});

it('follows no redirect of any kind', async () => {
  const { post, connections } = posting();
  expect(await post('/303')).toMatchObject({ status: 303 });
  expect(await post('/refresh')).toMatchObject({ status: 200, excerpt: 'see' });
  expect(requests.map(({ path }) => path)).toEqual(['/303', '/refresh']);
  expect(new Set(connections.map(({ address }) => address))).toEqual(new Set([ADDRESS]));
});

it.each(['/rst', '/chunk-ext', '/garbage'])('survives %s as a failed try', async (path) => {
  const { post } = posting();
  expect(await post(path)).toMatchObject(FAILED);
  expect(await post('/ok')).toMatchObject({ status: 200 });
});

it('refuses an expired certificate, one for another name and one of nobody, all alike', async () => {
  expect(await posting(expired).post('/ok')).toMatchObject(FAILED);
  expect(await posting().post('/ok', 'other.customer.test')).toMatchObject(FAILED);
  expect(await posting(valid, []).post('/ok')).toMatchObject(FAILED);
  expect(requests).toEqual([]);
});

it('reads at most 64 KiB of an answer and shows 4 of them', async () => {
  const { post } = posting();
  const large = await post('/large');
  expect(large).toMatchObject({ status: 200, error: null });
  expect(large.excerpt).toHaveLength(4_096);
  const startedAt = performance.now();
  expect(await post('/endless')).toMatchObject({ status: 200 });
  expect(performance.now() - startedAt).toBeLessThan(10_000);
});

it('shows what was answered as text that can be kept', async () => {
  expect((await posting().post('/nul')).excerpt).toBe('a\uFFFD\uFFFDb');
});

it('gives up on an answer that does not begin within ten seconds, whatever is said before it', async () => {
  const poster = posting();
  const silent = poster.post('/nothing');
  const continuing = poster.post('/continue');
  const [first, second] = await Promise.all([silent, continuing]);
  for (const result of [first, second]) {
    expect(result).toMatchObject(FAILED);
    expect(result.durationMs).toBeGreaterThanOrEqual(9_900);
    // And not after the fifteen that a whole answer may take.
    expect(result.durationMs).toBeLessThan(15_000);
  }
});

it('gives up on a body that trickles after fifteen seconds', async () => {
  const result = await posting().post('/trickle');
  expect(result).toMatchObject(FAILED);
  expect(result.durationMs).toBeGreaterThanOrEqual(14_900);
  expect(result.durationMs).toBeLessThan(25_000);
});
