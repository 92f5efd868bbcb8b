import type { FastifyInstance } from 'fastify';
import { mailbox } from '../mailbox.ts';
import { bankPages } from './bank.ts';
import { checkoutPages } from './checkout.ts';
import { type ConsoleOptions, consolePages } from './console.ts';
import { demoPages } from './demo.ts';
import { assets } from './door.ts';
import { invoicePages } from './invoice.ts';
import { mailboxPages } from './mailbox.ts';
import { portalPages } from './portal.ts';

/** Fastify plugin: every page for people, and the mailbox with its API under `/emails`. */
export async function pages(app: FastifyInstance, options: ConsoleOptions): Promise<void> {
  await app.register(assets);
  await app.register(mailbox, options);
  for (const plugin of [checkoutPages, portalPages, invoicePages, bankPages, mailboxPages])
    await app.register(plugin, options);
  await app.register(demoPages);
  await app.register(consolePages, options);
}
