import { createHash, randomUUID } from 'node:crypto';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { batchInput, fieldRefusal, type MailInput, mailInput, Refusal, refusalBody } from './mail-input.ts';
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
    if (fault === 'timeout_after') hangsUpAfter.add(request);
  });

  app.post('/emails', (request, reply) => {
    const answer = once(world, request, (body, key) => {
      const checked = mailInput.safeParse(body);
      if (!checked.success) throw fieldRefusal(checked.error, body);
      return { id: keep(world, checked.data, key) };
    });
    return hangsUpAfter.has(request) ? hangUp(request, reply) : answer;
  });

  app.post('/emails/batch', (request, reply) => {
    const answer = once(world, request, (body, key) =>
      keepBatch(world, body, key, request.headers['x-batch-validation'] === 'permissive'),
    );
    return hangsUpAfter.has(request) ? hangUp(request, reply) : answer;
  });

  app.get<{ Params: { id: string } }>('/emails/:id', (request) => {
    const mail = findMail(world, request.params.id);
    if (!mail) throw new Refusal(404, 'not_found', 'Email not found');
    return asResend(mail);
  });
}

const KEY_LIFETIME_SECONDS = 24 * 60 * 60;
/** Requests whose mail is kept but whose sender shall never hear of it. */
const hangsUpAfter = new WeakSet<FastifyRequest>();

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

/** Runs `work` once per idempotency key within 24 hours; the same body again gets the same answer again. */
function once<T extends object>(
  world: World,
  request: FastifyRequest,
  work: (body: unknown, key: string | null) => T,
): T {
  const raw = typeof request.body === 'string' ? request.body : '';
  const header = request.headers['idempotency-key'];
  if (header === undefined) return world.atomically(() => work(parse(raw), null));
  if (typeof header !== 'string' || header.length < 1 || header.length > 256)
    throw new Refusal(400, 'invalid_idempotency_key', 'The key must be between 1-256 chars.');
  const id = `${request.routeOptions.url} ${header}`;
  const bodyHash = createHash('sha256').update(raw).digest('hex');
  const known = world.hidden.get<{ bodyHash: string; at: number; answer: T }>('mail_key', id);
  if (known && known.at > world.now() - KEY_LIFETIME_SECONDS) {
    if (known.bodyHash === bodyHash) return known.answer;
    throw new Refusal(
      409,
      'invalid_idempotent_request',
      'Same idempotency key used with a different request payload.',
    );
  }
  return world.atomically(() => {
    const answer = work(parse(raw), header);
    world.hidden.put('mail_key', id, { bodyHash, at: world.now(), answer });
    return answer;
  });
}

function parse(raw: string): unknown {
  try {
    return JSON.parse(raw);
  } catch {
    throw new Refusal(422, 'validation_error', 'The request body is not valid JSON.');
  }
}

function keepBatch(
  world: World,
  body: unknown,
  key: string | null,
  permissive: boolean,
): { data: { id: string }[]; errors?: { index: number; message: string }[] } {
  const batch = batchInput.safeParse(body);
  if (!batch.success) throw new Refusal(422, 'validation_error', 'A batch is an array of 1 to 100 emails.');
  const data: { id: string }[] = [];
  const errors: { index: number; message: string }[] = [];
  for (const [index, entry] of batch.data.entries()) {
    const checked = mailInput.safeParse(entry);
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
