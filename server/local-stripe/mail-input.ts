import { z } from 'zod';

const ADDRESS = /^(?:[^<>\r\n]*<[^\s<>@,]+@[^\s<>@,]+>|[^\s<>@,]+@[^\s<>@,]+)$/;
const BAD_ADDRESS =
  'The email address needs to follow the `email@example.com` or `Name <email@example.com>` format.';

const address = z.string().regex(ADDRESS, BAD_ADDRESS);
const addresses = z.union([address.transform((one) => [one]), z.array(address).max(50)], {
  error: BAD_ADDRESS,
});
const oneLine = z.string().regex(/^[^\r\n]*$/, 'The `\\n` is not allowed in this field.');

/** A mail as Resend takes it. What Resend knows and a mailbox does not need is let through. */
export const mailInput = z
  .object({
    from: address,
    to: addresses.refine((list) => list.length > 0, BAD_ADDRESS),
    cc: addresses.nullish(),
    bcc: addresses.nullish(),
    reply_to: addresses.nullish(),
    subject: oneLine,
    html: z.string().nullish(),
    text: z.string().nullish(),
    headers: z.record(z.string(), oneLine).nullish(),
    tags: z
      .array(
        z.object({ name: z.string().regex(/^[\w-]{1,256}$/), value: z.string().regex(/^[\w-]{1,256}$/) }),
      )
      .nullish(),
    attachments: z
      .array(z.object({ filename: z.string().nullish(), content_type: z.string().nullish() }))
      .nullish(),
    scheduled_at: z.string().nullish(),
  })
  .refine((mail) => mail.html != null || mail.text != null, {
    path: ['html'],
    message: 'Missing `html` or `text` field.',
  });

/** A mail of a batch: the same, but attachments are documented as not supported. */
export const batchMailInput = mailInput.refine((mail) => mail.attachments == null, {
  path: ['attachments'],
  message: 'Attachments are not supported in batches.',
});
export type MailInput = z.output<typeof mailInput>;

type RefusalName =
  | 'missing_api_key'
  | 'invalid_api_key'
  | 'invalid_idempotency_key'
  | 'invalid_idempotent_request'
  | 'concurrent_idempotent_requests'
  | 'missing_required_field'
  | 'validation_error'
  | 'not_found'
  | 'rate_limit_exceeded'
  | 'internal_server_error';

/** A refusal in Resend's form: `{ statusCode, name, message }`. */
export class Refusal extends Error {
  readonly status: number;
  readonly code: RefusalName;

  constructor(status: number, code: RefusalName, message: string) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export const refusalBody = (
  refusal: Refusal,
): { statusCode: number; name: RefusalName; message: string } => ({
  statusCode: refusal.status,
  name: refusal.code,
  message: refusal.message,
});

/** What `POST /emails/batch` takes; each mail is checked on its own. */
export const batchInput = z.array(z.unknown()).min(1).max(100);

/** The first thing wrong with a mail, in Resend's words. */
export function fieldRefusal(error: z.ZodError, body: unknown): Refusal {
  const issue = error.issues[0];
  const field = String(issue?.path[0] ?? 'body');
  const given = typeof body === 'object' && body !== null ? Reflect.get(body, field) : undefined;
  if (field === 'html') return new Refusal(422, 'validation_error', 'Missing `html` or `text` field.');
  if (given === undefined) return new Refusal(422, 'missing_required_field', `Missing \`${field}\` field.`);
  return new Refusal(422, 'validation_error', `Invalid \`${field}\` field. ${issue?.message ?? ''}`.trim());
}
