import { createHmac } from 'node:crypto';
import { Agent as HttpAgent, request as http } from 'node:http';
import { Agent as HttpsAgent, request as https } from 'node:https';

const KEPT_BODY_BYTES = 2_048;

/** How one try went: an HTTP status with the beginning of the body, or why there was no answer at all. */
export type TryOutcome =
  | { readonly status: number; readonly body: string; readonly error: null }
  | { readonly status: null; readonly body: null; readonly error: string };

export type PostWebhook = (
  url: string,
  headers: Readonly<Record<string, string>>,
  body: string,
) => Promise<TryOutcome>;

/** `Stripe-Signature` over exactly these bytes, stamped with the real time in seconds. */
export function signature(secret: string, body: string, atSeconds: number): string {
  const digest = createHmac('sha256', secret).update(`${atSeconds}.${body}`).digest('hex');
  return `t=${atSeconds},v1=${digest}`;
}

/** Posts webhooks over kept connections, without following redirects. `close` ends what is under way. */
export function webhookPoster(timeoutMs: number): { post: PostWebhook; close(): void } {
  const agents = {
    'http:': new HttpAgent({ keepAlive: true }),
    'https:': new HttpsAgent({ keepAlive: true }),
  };
  const closing = new AbortController();
  const post: PostWebhook = (url, headers, body) =>
    new Promise((resolve) => {
      const failed = (error: string): void => resolve({ status: null, body: null, error });
      const target = new URL(url);
      const secure = target.protocol === 'https:';
      const bytes = Buffer.from(body);
      const request = (secure ? https : http)(
        target,
        {
          method: 'POST',
          agent: agents[secure ? 'https:' : 'http:'],
          headers: { ...headers, 'content-length': bytes.length },
          signal: AbortSignal.any([closing.signal, AbortSignal.timeout(timeoutMs)]),
        },
        (response) => {
          const chunks: Buffer[] = [];
          let kept = 0;
          response.on('data', (chunk: Buffer) => {
            if (kept < KEPT_BODY_BYTES) chunks.push(chunk.subarray(0, KEPT_BODY_BYTES - kept));
            kept += chunk.length;
          });
          response.on('end', () =>
            resolve({
              status: response.statusCode ?? 0,
              body: Buffer.concat(chunks).toString('utf8'),
              error: null,
            }),
          );
          response.on('error', (error) => failed(reason(error, timeoutMs)));
        },
      );
      request.on('error', (error) => failed(reason(error, timeoutMs)));
      request.end(bytes);
    });
  return {
    post,
    close() {
      closing.abort();
      agents['http:'].destroy();
      agents['https:'].destroy();
    },
  };
}

function reason(error: Error, timeoutMs: number): string {
  if (error.name === 'AbortError' || error.name === 'TimeoutError') return `no answer within ${timeoutMs} ms`;
  return 'code' in error && typeof error.code === 'string' ? error.code : error.message;
}
