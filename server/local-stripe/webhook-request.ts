import { createHmac } from 'node:crypto';
import { type ClientRequest, Agent as HttpAgent, request as http } from 'node:http';
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
  const underWay = new Set<ClientRequest>();
  const post: PostWebhook = (url, headers, body) =>
    new Promise((resolve) => {
      const target = new URL(url);
      const secure = target.protocol === 'https:';
      const bytes = Buffer.from(body);
      const request = (secure ? https : http)(target, {
        method: 'POST',
        agent: agents[secure ? 'https:' : 'http:'],
        headers: { ...headers, 'content-length': bytes.length },
      });
      // The whole exchange has this long, so that an endpoint which trickles its answer is cut off as well.
      const timer = setTimeout(
        () => request.destroy(new Error(`no answer within ${timeoutMs} ms`)),
        timeoutMs,
      );
      const done = (outcome: TryOutcome): void => {
        clearTimeout(timer);
        underWay.delete(request);
        resolve(outcome);
      };
      const failed = (error: Error): void => done({ status: null, body: null, error: reason(error) });
      underWay.add(request);
      request.on('error', failed);
      request.on('response', (response) => {
        const chunks: Buffer[] = [];
        let kept = 0;
        response.on('data', (chunk: Buffer) => {
          if (kept < KEPT_BODY_BYTES) chunks.push(chunk.subarray(0, KEPT_BODY_BYTES - kept));
          kept += chunk.length;
        });
        response.on('end', () =>
          done({
            status: response.statusCode ?? 0,
            body: Buffer.concat(chunks).toString('utf8'),
            error: null,
          }),
        );
        response.on('error', failed);
      });
      request.end(bytes);
    });
  return {
    post,
    close() {
      for (const request of underWay) request.destroy(new Error('the local Stripe stopped'));
      agents['http:'].destroy();
      agents['https:'].destroy();
    },
  };
}

function reason(error: Error): string {
  return 'code' in error && typeof error.code === 'string' ? error.code : error.message;
}
