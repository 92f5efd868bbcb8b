import type { MigrationObject } from '@mikro-orm/core';
import { Initial } from './0001-initial.ts';

/** Every migration, in the order in which they run. Their names are what the database remembers. */
export const MIGRATIONS: MigrationObject[] = [{ name: '0001-initial', class: Initial }];
