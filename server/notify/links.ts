/** Whether a URL may stand in a mail. */
export type LinkPolicy = (url: string) => boolean;

/** Stripe's own pages that mails lead to. */
export const STRIPE_ORIGINS = [
  'https://billing.stripe.com',
  'https://checkout.stripe.com',
  'https://invoice.stripe.com',
  'https://pay.stripe.com',
] as const;

/**
 * Allows http(s) links to exactly these origins. A URL that the parser had to repair, or that carries a user
 * name or anything but printable ASCII, is refused: what people see would not be where they arrive.
 */
export function allowLinksTo(origins: readonly string[]): LinkPolicy {
  const allowed = new Set(origins.map((origin) => new URL(origin).origin));
  return (url) => {
    const parsed = WELL_WRITTEN.test(url) ? URL.parse(url) : null;
    return parsed !== null && parsed.username === '' && parsed.password === '' && allowed.has(parsed.origin);
  };
}

/** Printable ASCII without the characters that parsers repair in silence. */
const WELL_WRITTEN = /^https?:\/\/[!#-;=?-[\]_a-z~]+$/;
