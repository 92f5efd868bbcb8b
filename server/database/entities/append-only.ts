/**
 * Refuses update and delete. The same for truncate stands in the migration: PostgreSQL's information
 * schema does not list truncate triggers, so the drift check would take a declared one for missing.
 */
export const APPEND_ONLY = {
  name: 'append_only',
  timing: 'before' as const,
  events: ['delete' as const, 'update' as const],
  forEach: 'statement' as const,
  body: "raise exception '% is append-only', tg_table_name using errcode = 'restrict_violation'",
};
