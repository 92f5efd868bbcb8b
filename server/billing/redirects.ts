import { getPublicSuffix } from 'tldts';
import { ProblemError } from '../../shared/errors.ts';

/** Decides to which addresses a customer may be sent (requirement V-248). */
export type RedirectPolicy = {
  /** Whether a customer may be sent to this address. */
  allows(url: unknown): boolean;
  /**
   * Returns the address exactly as it was given, so that `{CHECKOUT_SESSION_ID}` reaches Stripe unescaped.
   * Throws 400 `validation-failed` with the code `redirect_url_not_allowed`, naming the field.
   */
  check(field: string, url: unknown): string;
};

/**
 * Reads the operator's allowlist: origins, each with at most one leading wildcard label and a path prefix.
 * An empty list refuses everything. Throws an Error that names the first bad entry. `anyLoopbackPort` also
 * allows every http address of this machine, which only the local Stripe may ask for.
 */
export function parseAllowlist(
  entries: readonly string[],
  { anyLoopbackPort = false }: { anyLoopbackPort?: boolean } = {},
): RedirectPolicy {
  const allowed = entries.map(parseEntry);
  const allows = (url: unknown): url is string => {
    const target = parseTarget(url);
    if (!target) return false;
    if (anyLoopbackPort && isLoopback(target.host)) return true;
    return allowed.some((entry) => covers(entry, target));
  };
  return {
    allows,
    check(field, url) {
      if (allows(url)) return url;
      const message = isUnfilled(url)
        ? 'holds a template that was not filled in: Stripe replaces {CHECKOUT_SESSION_ID} exactly as it stands here'
        : 'is not on the allowlist of redirect addresses of this deployment';
      throw new ProblemError('validation-failed', `${field} ${message}.`, {
        code: 'redirect_url_not_allowed',
        errors: [{ field, message }],
      });
    },
  };
}

type Entry = {
  scheme: string;
  /** Without the wildcard. */
  host: string;
  wildcard: boolean;
  port: string;
  /** Without a slash at its end; empty for the whole origin. */
  pathPrefix: string;
};

type Target = { scheme: string; host: string; port: string; path: string };

const ENTRY = /^(https?:\/\/)(\*\.)?([^/*?#{]+)(\/[^*?#{]*)?$/i;

function parseEntry(text: string): Entry {
  const refuse = (why: string) =>
    new Error(
      `"${text}" is no entry for a redirect allowlist: ${why}. Write an origin such as https://your.app`,
    );
  const [, scheme, wildcard, authority, path = ''] = ENTRY.exec(text) ?? [];
  if (scheme === undefined || authority === undefined) {
    throw refuse('it must be http or https, a host, and no more than a path');
  }
  const target = parseTarget(scheme + authority + path);
  if (!target)
    throw refuse('it is not an address that could ever be allowed (http is for this machine only)');
  if (wildcard && !/^[^.]+(\.[^.]+)*\.[a-z][a-z0-9-]*$/.test(target.host)) {
    throw refuse('a wildcard needs a domain of at least two labels below it');
  }
  if (wildcard && isPublicSuffix(target.host)) {
    throw refuse('anybody can have a name below that domain, so a wildcard would allow strangers');
  }
  const pathPrefix = target.path.replace(/\/$/, '');
  return { ...target, wildcard: wildcard !== undefined, pathPrefix };
}

/** As https://publicsuffix.org/ lists them, those of hosting services such as github.io included. */
function isPublicSuffix(host: string): boolean {
  return getPublicSuffix(host, { allowPrivateDomains: true }) === host;
}

function covers(entry: Entry, target: Target): boolean {
  if (entry.scheme !== target.scheme || entry.port !== target.port) return false;
  if (!(entry.wildcard ? isOneLabelBelow(entry.host, target.host) : entry.host === target.host)) return false;
  return target.path === entry.pathPrefix || target.path.startsWith(`${entry.pathPrefix}/`);
}

function isOneLabelBelow(parent: string, host: string): boolean {
  const suffix = `.${parent}`;
  return host.endsWith(suffix) && LABEL.test(host.slice(0, -suffix.length));
}

const MAX_LENGTH = 2048;
const TEMPLATE = '{CHECKOUT_SESSION_ID}';
const AUTHORITY = /^[^/]*\/\/[^/?#]*/;
/** RFC 3986, brackets only where a host may have them; every percent sign begins an encoded byte. */
const SHAPE =
  /^(https?):\/\/([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::([1-9]\d{0,4}))?((?:\/(?:[\w\-.~:/@!$&'()*+,;=]|%[0-9A-F]{2})*)?)((?:\?(?:[\w\-.~:/?@!$&'()*+,;=]|%[0-9A-F]{2})*)?(?:#(?:[\w\-.~:/?@!$&'()*+,;=]|%[0-9A-F]{2})*)?)$/i;
const ENCODED_CONTROL = /%(?:[01][0-9A-F]|7F)/i;
/** What servers and proxies behind the origin read in different ways. */
const AMBIGUOUS_PATH = /(?:^|\/)\.{1,2}(?:\/|$)|\.\.|%2e|%2f|%5c|;|\/\//i;
/** A template of another language around ours, or ours in a form that Stripe does not know. */
const UNFILLED =
  /(?:\$|%24|%25|%)\{|\{(?!CHECKOUT_SESSION_ID\})|%7[Bb]\$?(?:CHECKOUT_SESSION_ID|checkout_session_id)/;
const LABEL = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;
const DEFAULT_PORTS: Readonly<Record<string, string>> = { http: '80', https: '443' };

/**
 * Null unless every parser of URLs, however lax, finds the same scheme, host and path in the text. The text
 * decides; `new URL` only confirms it, because it repairs what a check must refuse.
 */
function parseTarget(url: unknown): Target | null {
  if (typeof url !== 'string' || url.length > MAX_LENGTH) return null;
  const [authority = ''] = AUTHORITY.exec(url) ?? [];
  // There the template would send the id of the session to DNS.
  if (authority.includes('{')) return null;
  // A letter in place of the template: what stands around it must not run together into something new.
  const shape = SHAPE.exec(url.replaceAll(TEMPLATE, 'x'));
  if (!shape) return null;
  const [, schemeText = '', hostText = '', portText, pathText = ''] = shape;
  const scheme = schemeText.toLowerCase();
  const host = hostText.toLowerCase();
  if (ENCODED_CONTROL.test(url) || isAmbiguous(pathText) || isUnfilled(url)) return null;
  if (!host.startsWith('[') && !host.split('.').every((label) => LABEL.test(label))) return null;
  if (!URL.canParse(url)) return null;
  // Other spellings of an IP address and names that the parser maps to others.
  if (new URL(url).hostname !== host) return null;
  if (scheme === 'http' && !isLoopback(host)) return null;
  const path = url.slice(authority.length).split(/[?#]/, 1).join('');
  return { scheme, host, port: portText ?? DEFAULT_PORTS[scheme] ?? '', path };
}

/** An address that was put together before its template was filled in. */
function isUnfilled(url: unknown): boolean {
  return typeof url === 'string' && UNFILLED.test(url);
}

/**
 * Whether somebody behind the origin could read another path: servers and proxies decode once more than they should,
 * take broken UTF-8 for what it resembles, or put look-alikes of dots and slashes in their place.
 */
function isAmbiguous(path: string): boolean {
  let text = path;
  // It becomes shorter each time.
  for (;;) {
    if (AMBIGUOUS_PATH.test(text) || ENCODED_CONTROL.test(text)) return true;
    const next = text.replaceAll(/%([2-7][0-9A-F])/gi, (_, hex: string) =>
      String.fromCharCode(Number.parseInt(hex, 16)),
    );
    if (next === text) break;
    text = next;
  }
  try {
    const plain = decodeURIComponent(path).normalize('NFKC');
    return /\.\.|\\|\/\//.test(plain) || plain.split('/').length !== path.split('/').length;
  } catch {
    // It is not UTF-8.
    return true;
  }
}

function isLoopback(host: string): boolean {
  return (
    host === 'localhost' ||
    host.endsWith('.localhost') ||
    host === '[::1]' ||
    /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(host)
  );
}
