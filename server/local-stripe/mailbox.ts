import { randomUUID } from 'node:crypto';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import {
  batchInput,
  batchMailInput,
  fieldRefusal,
  type MailInput,
  mailInput,
  Refusal,
  refusalBody,
} from './mail-input.ts';
import { once, underWay } from './mail-keys.ts';
import { failNextMails, findMail, keepMail, type Mail, type MailFault, pendingMailFault } from './mails.ts';
import type { World } from './world.ts';

export interface MailboxOptions {
  readonly world: World;
  /** Real time in milliseconds: the rate limit counts by it. */
  readonly clock: () => number;
  /** Resend's own default is 2. */
  readonly requestsPerSecond?: number;
}

/**
 * Fastify plugin that answers as Resend's API does for sending and reading mails, so that the `resend` package
 * pointed at it by `RESEND_BASE_URL` sends unchanged. Nothing ever leaves this machine.
 */
export async function mailbox(app: FastifyInstance, options: MailboxOptions): Promise<void> {
  const { world } = options;
  const window = secondWindow(options.clock, options.requestsPerSecond ?? 2);

  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', { parseAs: 'string', bodyLimit: 40 * 1024 * 1024 }, (_request, body, done) =>
    done(null, body),
  );
  app.setErrorHandler((error, _request, reply) => {
    if (error instanceof Refusal) return reply.code(error.status).send(refusalBody(error));
    throw error;
  });

  app.addHook('onRequest', async (request, reply) => {
    const { remaining, resetSeconds } = window();
    reply.headers({
      'ratelimit-limit': options.requestsPerSecond ?? 2,
      'ratelimit-remaining': Math.max(remaining, 0),
      'ratelimit-reset': resetSeconds,
    });
    authorize(request);
    const fault = takeFault(world, request.method);
    if (remaining < 0 || fault === 'rate_limited') throw tooMany(reply, options.requestsPerSecond ?? 2);
    if (fault === 'server_error') throw new Refusal(500, 'internal_server_error', 'Internal server error');
    if (fault === 'garbage') return reply.code(502).type('text/html').send('<html>Bad gateway');
    if (fault === 'timeout_before') return hangUp(request, reply);
    if (fault === 'timeout_after' || fault === 'under_way') hangsUpAfter.set(request, fault);
  });

  app.post('/emails', (request, reply) => {
    const answer = once(world, request, (body, key) => {
      const checked = mailInput.safeParse(body);
      if (!checked.success) throw fieldRefusal(checked.error, body);
      return { id: keep(world, checked.data, key) };
    });
    return endsUnheard(world, request) ? hangUp(request, reply) : answer;
  });

  app.post('/emails/batch', (request, reply) => {
    const answer = once(world, request, (body, key) =>
      keepBatch(world, body, key, request.headers['x-batch-validation'] === 'permissive'),
    );
    return endsUnheard(world, request) ? hangUp(request, reply) : answer;
  });

  app.get<{ Params: { id: string } }>('/emails/:id', (request) => {
    const mail = findMail(world, request.params.id);
    if (!mail) throw new Refusal(404, 'not_found', 'Email not found');
    return asResend(mail);
  });
}

/** Requests whose mails are kept but whose sender shall never hear of it, by the fault that is to blame. */
const hangsUpAfter = new WeakMap<FastifyRequest, MailFault>();

/** Whether the sender shall hear nothing. With `under_way`, the next one with the same key is told to wait. */
function endsUnheard(world: World, request: FastifyRequest): boolean {
  const fault = hangsUpAfter.get(request);
  const key = request.headers['idempotency-key'];
  if (fault === 'under_way' && typeof key === 'string') underWay(world, key);
  return fault !== undefined;
}

/** Ends the connection without an answer, which is what a client's timeout looks like but sooner. */
function hangUp(request: FastifyRequest, reply: FastifyReply): FastifyReply {
  reply.hijack();
  request.raw.socket.destroy();
  return reply;
}

function authorize(request: FastifyRequest): void {
  const given = request.headers.authorization;
  if (given === undefined)
    throw new Refusal(401, 'missing_api_key', 'Missing API key in the authorization header.');
  if (!/^Bearer re_\S+$/.test(given)) throw new Refusal(403, 'invalid_api_key', 'API key is invalid.');
}

function tooMany(reply: FastifyReply, limit: number): Refusal {
  reply.header('retry-after', 1);
  return new Refusal(
    429,
    'rate_limit_exceeded',
    `Too many requests. You can only make ${limit} requests per second. See rate limit response headers for more information. Or contact support to increase rate limit.`,
  );
}

/** Counts requests in windows of one second. `remaining` is negative for a request too many. */
function secondWindow(clock: () => number, limit: number): () => { remaining: number; resetSeconds: number } {
  let startedAt = Number.NEGATIVE_INFINITY;
  let used = 0;
  return () => {
    const now = clock();
    if (now - startedAt >= 1000 || now < startedAt) {
      startedAt = now;
      used = 0;
    }
    used++;
    return { remaining: limit - used, resetSeconds: 1 };
  };
}

function takeFault(world: World, method: string): MailFault | null {
  const pending = method === 'POST' ? pendingMailFault(world) : undefined;
  if (!pending) return null;
  failNextMails(world, pending.kind, pending.left - 1);
  return pending.kind;
}

function keepBatch(
  world: World,
  body: unknown,
  key: string | null,
  permissive: boolean,
): { data: { id: string }[]; errors?: { index: number; message: string }[] } {
  const batch = batchInput.safeParse(body);
  // Documented as a reason for an error; in which form is not, so that nothing is sent in either mode.
  if (!batch.success) throw new Refusal(422, 'validation_error', 'A batch is an array of 1 to 100 emails.');
  const data: { id: string }[] = [];
  const errors: { index: number; message: string }[] = [];
  for (const [index, entry] of batch.data.entries()) {
    const checked = batchMailInput.safeParse(entry);
    if (checked.success) data.push({ id: keep(world, checked.data, key) });
    else if (permissive) errors.push({ index, message: fieldRefusal(checked.error, entry).message });
    else throw fieldRefusal(checked.error, entry);
  }
  return permissive ? { data, errors } : { data };
}

function keep(world: World, input: MailInput, idempotencyKey: string | null): string {
  const mail: Mail = {
    id: randomUUID(),
    from: input.from,
    to: input.to,
    cc: input.cc ?? [],
    bcc: input.bcc ?? [],
    replyTo: input.reply_to ?? [],
    subject: input.subject,
    html: input.html ?? null,
    text: input.text ?? null,
    headers: input.headers ?? {},
    tags: input.tags ?? [],
    attachments: (input.attachments ?? []).map((file) => ({
      filename: file.filename ?? 'attachment',
      contentType: file.content_type ?? 'application/octet-stream',
    })),
    scheduledAt: input.scheduled_at ?? null,
    idempotencyKey,
    createdAt: world.now(),
  };
  keepMail(world, mail);
  return mail.id;
}

const orNull = (list: readonly string[]): readonly string[] | null => (list.length > 0 ? list : null);

function asResend(mail: Mail): object {
  return {
    object: 'email',
    id: mail.id,
    message_id: `<${mail.id}@mailbox.localhost>`,
    to: mail.to,
    from: mail.from,
    created_at: new Date(mail.createdAt * 1000).toISOString(),
    subject: mail.subject,
    html: mail.html,
    text: mail.text,
    bcc: orNull(mail.bcc),
    cc: orNull(mail.cc),
    reply_to: orNull(mail.replyTo),
    last_event: mail.scheduledAt === null ? 'delivered' : 'scheduled',
    scheduled_at: mail.scheduledAt,
    tags: mail.tags,
    topic_id: null,
  };
}
