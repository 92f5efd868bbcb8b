import { createHash } from 'node:crypto';
import { promisify } from 'node:util';
import { brotliCompress, constants, gzip } from 'node:zlib';
import type { FastifyReply, FastifyRequest } from 'fastify';

/** Something public that is the same for everybody: made once, and served from memory. */
export type Asset = {
  readonly type: string;
  /** Names the content, whatever its encoding. */
  readonly etag: string;
  readonly cacheControl: string;
  readonly body: Buffer;
  /** Compressed at the first call that takes it so. */
  readonly encoded: Map<Encoding, Promise<Buffer>>;
};

type Encoding = 'br' | 'gzip';

/** For what has its content in its name, and for what has to be asked about again. */
export const FOR_EVER = 'public, max-age=31536000, immutable';
export const ASK_AGAIN = 'public, no-cache';

/** Shorter than this it fits into one packet anyway. */
const WORTH_COMPRESSING = 1_400;

export function makeAsset(text: string, { type, cacheControl }: Pick<Asset, 'type' | 'cacheControl'>): Asset {
  const body = Buffer.from(text);
  return { type, cacheControl, body, etag: `W/"${nameOf(body)}"`, encoded: new Map() };
}

/** A name that is another one whenever the content is. */
export function nameOf(content: Buffer | string): string {
  return createHash('sha256').update(content).digest('base64url').slice(0, 20);
}

/** Answers with it, as compressed as the caller takes it; 304 when they have it already. */
export async function sendAsset(
  request: FastifyRequest,
  reply: FastifyReply,
  asset: Asset,
): Promise<FastifyReply> {
  reply.headers({ 'cache-control': asset.cacheControl, etag: asset.etag, vary: 'accept-encoding' });
  if (isKnown(request.headers['if-none-match'], asset.etag)) return reply.code(304).send();
  reply.header('content-type', asset.type);
  const encoding = encodingFor(request.headers['accept-encoding'], asset);
  if (encoding === null) return reply.send(asset.body);
  const encoded = asset.encoded.get(encoding) ?? compress[encoding](asset.body);
  asset.encoded.set(encoding, encoded);
  return reply.header('content-encoding', encoding).send(await encoded);
}

// The reference page's script is 4.9 MB: the last tenth of its size would cost seconds.
const compress: Readonly<Record<Encoding, (body: Buffer) => Promise<Buffer>>> = {
  br: (body) =>
    promisify(brotliCompress)(body, {
      params: { [constants.BROTLI_PARAM_QUALITY]: 6, [constants.BROTLI_PARAM_SIZE_HINT]: body.length },
    }),
  gzip: (body) => promisify(gzip)(body, { level: 6 }),
};

function encodingFor(accepted: string | string[] | undefined, { body }: Asset): Encoding | null {
  if (accepted === undefined || body.length < WORTH_COMPRESSING) return null;
  const named = [accepted].flat().join(',').toLowerCase().split(',');
  const takes = (name: Encoding) => named.some((part) => isTaken(part, name));
  return takes('br') ? 'br' : takes('gzip') ? 'gzip' : null;
}

/** `gzip` and `gzip;q=0.5` take it, `gzip;q=0` does not. */
function isTaken(part: string, name: Encoding): boolean {
  const [encoding = '', ...parameters] = part.split(';').map((word) => word.trim());
  return encoding === name && !parameters.some((parameter) => /^q=0(\.0*)?$/.test(parameter));
}

function isKnown(header: string | undefined, etag: string): boolean {
  return (header ?? '').split(',').some((one) => one.trim() === etag || one.trim() === '*');
}
