/**
 * Replaces whatever looks like an API key of ours or a secret of Stripe's, for texts that others wrote: a caller
 * can put a key where a name belongs, and whoever refuses a key may repeat it.
 */
export function redactSecrets(text: string): string {
  return text.replace(SECRETS, '[redacted]');
}

const SECRETS = /(?:ds_live|[rs]k_(?:live|test)|whsec)_[\w-]{8,}/g;
