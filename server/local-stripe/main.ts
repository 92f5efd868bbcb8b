import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { parseArgs } from 'node:util';
import { startLocalStripe } from './local-stripe.ts';

const USAGE = `Usage: local-stripe [--port 12111] [--data FILE]

Starts the local Stripe on 127.0.0.1. With --data it keeps its state in that file; without, in memory.`;

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      port: { type: 'string', default: '12111' },
      data: { type: 'string', default: ':memory:' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return void process.stdout.write(`${USAGE}\n`);
  const port = Number(values.port);
  if (!/^\d{1,5}$/.test(values.port) || port > 65_535) throw new Error(`--port ${values.port} is not a port`);
  if (process.env['STRIPE_SECRET_KEY']?.includes('_live_'))
    throw new Error('STRIPE_SECRET_KEY is a live key: the local Stripe does not start next to one.');
  if (values.data !== ':memory:') mkdirSync(dirname(values.data), { recursive: true, mode: 0o700 });

  const localStripe = await startLocalStripe({ port, dataPath: values.data });
  const kept =
    values.data === ':memory:' ? 'Its state goes with it.' : `Its state is kept in ${values.data}.`;
  // Before the address is told: whoever reads it may end us at once.
  const stop = (): void => {
    process.stdout.write(`Stopping. ${kept}\n`);
    void localStripe.close().then(() => process.exit(0));
  };
  process.once('SIGINT', stop);
  process.once('SIGTERM', stop);
  process.stdout.write(
    [
      `The local Stripe answers on ${localStripe.url}`,
      `  npm stripe:  new Stripe('sk_test_123', { host: '127.0.0.1', port: ${localStripe.port}, protocol: 'http' })`,
      `  Stripe CLI:  stripe trigger customer.created --api-base ${localStripe.url} --api-key sk_test_1234567890123`,
      `  console:     ${localStripe.url}/console`,
      `  mailbox:     ${localStripe.url}/mailbox, and for npm resend RESEND_BASE_URL=${localStripe.url}`,
      `  hooks:       ${localStripe.url}/_sandbox`,
      `  Ctrl-C ends it. ${kept}`,
      '',
    ].join('\n'),
  );
}

/** One sentence for whoever started it. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if ('code' in error && error.code === 'EADDRINUSE' && 'port' in error)
    return `Port ${String(error.port)} is taken, perhaps by a local Stripe that runs already: choose another with --port.`;
  return error.message;
}

main().catch((error: unknown) => {
  process.stderr.write(`${reasonOf(error)}\n${USAGE}\n`);
  process.exit(1);
});
