import { createHash } from 'node:crypto';
import type { AuditEntry } from '../database/entities/journal.ts';

/** The part of an entry that its hash vouches for: everything. */
export type Link = Omit<AuditEntry, 'hash' | symbol>;

/** SHA-256 over the canonical JSON of the entry, in which the hash of the entry before stands as well. */
export function linkHash(link: Link): Buffer {
  const text = canonicalJson([
    link.prevHash?.toString('hex') ?? null,
    link.accountId,
    link.position,
    link.id,
    link.dedupeKey,
    link.actorType,
    link.actorAccountId ?? null,
    link.actorKeyId ?? null,
    link.action,
    link.targetResourceId ?? null,
    link.payload,
    link.occurredAt.toISOString(),
  ]);
  return createHash('sha256').update(text).digest();
}

/** JSON with sorted keys and no white space: jsonb keeps neither the order of keys nor their spacing. */
function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) => {
    if (typeof inner !== 'object' || inner === null || Array.isArray(inner)) return inner;
    return Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)));
  });
}
