import { z } from 'zod';

/** Everything a key can be allowed to do. */
export const SCOPES = [
  'read',
  'write',
  'account_owner',
  'read:billing',
  'admin:billing',
  'read:audit',
  'read:webhooks',
] as const;
export type Scope = (typeof SCOPES)[number];

export const scopeSchema = z.enum(SCOPES).meta({
  id: 'Scope',
  description: 'Something an API key is allowed to do.',
  examples: ['read:billing'],
});

/**
 * Whether the scopes of a key cover the one a call needs: `account_owner` covers every scope, `read`
 * every `read:*`, and `write` does not imply any reading.
 */
export function scopeAllows(granted: readonly Scope[], needed: Scope): boolean {
  return granted.some(
    (scope) =>
      scope === needed || scope === 'account_owner' || (scope === 'read' && needed.startsWith('read:')),
  );
}
