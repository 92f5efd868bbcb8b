import { randomBytes } from 'node:crypto';
import { Client } from 'pg';
import { inject } from 'vitest';

export type TestDatabase = { url: string; drop(): Promise<void> };

/**
 * Creates a database of the caller's own, already migrated, or a copy of another template ('template0' is
 * empty). `drop` removes it whoever is still connected.
 */
export const createTestDatabase = async (template = inject('templateDatabase')): Promise<TestDatabase> => {
  const name = `${inject('databasePrefix')}${randomBytes(6).toString('hex')}`;
  await administer(`create database ${name} template ${template} strategy file_copy`);
  const url = new URL(inject('adminUrl'));
  url.pathname = `/${name}`;
  return {
    url: url.href,
    drop: () => administer(`drop database if exists ${name} with (force)`),
  };
};

const administer = async (statement: string): Promise<void> => {
  const client = new Client({ connectionString: inject('adminUrl') });
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
};
