import { isIP } from 'node:net';
import { isLoopbackAddress, isPublicAddress } from './addresses.ts';

/** Looks a name up: every address it has, in the order to try them. */
export type Resolve = (hostname: string) => Promise<readonly string[]>;

export type DestinationPolicy = {
  readonly resolve: Resolve;
  /** Beside 443. */
  readonly ports: readonly number[];
  /** Lets http go to this machine: for development beside the local Stripe, never with a real key. */
  readonly loopback: boolean;
};

/** Where to connect: the address was checked, the name is for TLS and the Host header. */
export type Destination = {
  readonly url: URL;
  readonly address: string;
  readonly hostname: string;
  readonly port: number;
  readonly secure: boolean;
};

export type Refusal = { readonly refused: string };

const LOOKUP_TIMEOUT_MS = 2_000;

/**
 * Decides whether a URL of a stranger may be called, and at which address. Its name is looked up once, every
 * answer must be public, and it is that address, not the name, that is to be connected to: a name that
 * answers otherwise a moment later changes nothing.
 */
export async function checkDestination(
  policy: DestinationPolicy,
  text: string,
): Promise<Destination | Refusal> {
  const url = readUrl(text);
  if (url === null) return { refused: 'must be an https URL, without user, password or fragment' };
  const local = policy.loopback ? loopbackAddress(url) : null;
  const hostname = url.hostname.replace(/\.$/, '').replace(/^\[|\]$/g, '');
  if (local !== null && url.protocol === 'http:') {
    return { url, address: local, hostname, port: Number(url.port || 80), secure: false };
  }
  if (url.protocol !== 'https:') return { refused: 'must begin with https://' };
  const port = Number(url.port || HTTPS_PORT);
  if (port !== HTTPS_PORT && !policy.ports.includes(port)) {
    return { refused: 'must use the port 443, or one that this deployment allows' };
  }
  if (isIP(hostname) !== 0) return { refused: 'must name a host, not an IP address' };
  if (isInternalName(hostname)) return { refused: NOT_PUBLIC };
  const addresses = await lookUp(policy.resolve, hostname);
  const [address] = addresses;
  if (address === undefined || !addresses.every(isPublicAddress)) return { refused: NOT_PUBLIC };
  return { url, address, hostname, port, secure: true };
}

/** One sentence for all of it: what a name means inside our network is nobody's business. */
const NOT_PUBLIC = 'must name a host that can be reached from the internet';
const HTTPS_PORT = 443;

function readUrl(text: string): URL | null {
  // `new URL` would take out line breaks and tabs, and repair much else that should not be sent as it stands.
  if (text.length > 2048 || !/^https?:\/\/[!-~]+$/i.test(text) || text.includes('\\') || text.includes('#'))
    return null;
  const url = URL.canParse(text) ? new URL(text) : null;
  return url === null || url.hostname === '' || url.username !== '' || url.password !== '' ? null : url;
}

function loopbackAddress({ hostname }: URL): string | null {
  if (hostname === 'localhost') return '127.0.0.1';
  const address = hostname.replace(/^\[|\]$/g, '');
  return isLoopbackAddress(address) ? address : null;
}

/** Names that only mean something inside a network: a single label, or one of the domains kept for that. */
function isInternalName(hostname: string): boolean {
  const labels = hostname.toLowerCase().split('.');
  const [last = ''] = labels.slice(-1);
  return (
    labels.length < 2 ||
    labels.includes('') ||
    INTERNAL_DOMAINS.has(last) ||
    (last === 'arpa' && labels.at(-2) === 'home')
  );
}

const INTERNAL_DOMAINS: ReadonlySet<string> = new Set([
  'local',
  'localhost',
  'localdomain',
  'internal',
  'intranet',
  'private',
  'corp',
  'home',
  'lan',
  'onion',
]);

/** No answer in time is no answer. */
async function lookUp(resolve: Resolve, hostname: string): Promise<readonly string[]> {
  const { promise: late, resolve: giveUp } = Promise.withResolvers<readonly string[]>();
  const timer = setTimeout(() => giveUp([]), LOOKUP_TIMEOUT_MS);
  try {
    return await Promise.race([resolve(hostname), late]);
  } catch {
    // A name that does not exist, or a resolver that is away: either way there is nowhere to connect to.
    return [];
  } finally {
    clearTimeout(timer);
  }
}
