import { ProblemError } from '../../shared/errors.ts';
import type { BillingDeps } from './deps.ts';

type Given = { success_url?: string | undefined; cancel_url?: string | undefined };

/** Where Checkout leads back to: what the caller names, if it is allowed, else what the operator configured. */
export function redirectsOf(
  { redirects, defaults }: Pick<BillingDeps, 'redirects' | 'defaults'>,
  { success_url, cancel_url }: Given,
): { successUrl: string; cancelUrl: string } {
  const missing = [
    ...(success_url === undefined && defaults.checkoutSuccessUrl === null ? ['success_url'] : []),
    ...(cancel_url === undefined && defaults.checkoutCancelUrl === null ? ['cancel_url'] : []),
  ];
  const choose = (field: string, given: string | undefined, configured: string | null): string => {
    if (given !== undefined) return redirects.check(field, given);
    if (configured !== null) return configured;
    const required = `${missing.length > 1 ? 'are' : 'is'} required, because this deployment has no default`;
    throw new ProblemError('validation-failed', `${missing.join(' and ')} ${required}.`, {
      code: 'redirect_url_required',
      errors: missing.map((name) => ({
        field: name,
        message: 'is required, because this deployment has no default for it',
      })),
    });
  };
  return {
    successUrl: choose('success_url', success_url, defaults.checkoutSuccessUrl),
    cancelUrl: choose('cancel_url', cancel_url, defaults.checkoutCancelUrl),
  };
}
