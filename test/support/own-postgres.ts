import { startEmbeddedPostgres } from '../../server/database/embedded.ts';

// A process that owns an embedded PostgreSQL until it is killed; its parent learns the URL over IPC.
const [dataDir] = process.argv.slice(2);
if (dataDir === undefined) throw new Error('usage: own-postgres.ts <data directory>');
const { url } = await startEmbeddedPostgres({ dataDir, log: console.error, durable: false });
process.send?.({ url });
