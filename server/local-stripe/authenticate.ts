import { StripeError } from './errors.ts';

/**
 * Accepts any test key (`sk_test_…`, `rk_test_…`), as Bearer or as the user of Basic. Throws Stripe's 401
 * otherwise, and for a live key before anything else is looked at: it has no business here.
 */
export function authenticate(authorization: string | undefined): void {
  const key = keyIn(authorization);
  if (key === null) {
    throw unauthorized(
      "You did not provide an API key. Send it in the Authorization header, using Bearer auth (e.g. 'Authorization: Bearer sk_test_123'). The local Stripe takes any key that begins with sk_test_.",
    );
  }
  if (/^(sk|rk|pk)_live_/.test(key)) {
    throw unauthorized(
      'A live API key was sent to the local Stripe, which was refused and did not keep it. Use a test key (sk_test_…) here, and consider whether the live key has been exposed to this machine.',
    );
  }
  if (!/^(sk|rk)_test_[A-Za-z0-9_]+$/.test(key)) {
    throw unauthorized(
      `Invalid API Key provided: ${masked(key)}. The local Stripe takes keys that begin with sk_test_.`,
    );
  }
}

function keyIn(authorization: string | undefined): string | null {
  const [scheme, credentials] = (authorization ?? '').trim().split(/\s+/, 2);
  if (credentials === undefined) return null;
  if (scheme?.toLowerCase() === 'bearer') return credentials;
  if (scheme?.toLowerCase() !== 'basic') return null;
  return Buffer.from(credentials, 'base64').toString('utf8').split(':', 1)[0] || null;
}

function unauthorized(message: string): StripeError {
  return new StripeError({ status: 401, type: 'invalid_request_error', message });
}

function masked(key: string): string {
  return key.length <= 8 ? '*'.repeat(key.length) : `${key.slice(0, 4)}${'*'.repeat(8)}${key.slice(-4)}`;
}
