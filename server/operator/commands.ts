import { SCOPES } from '../../shared/scopes.ts';
import type { Command } from './command.ts';
import { ACCOUNT, EVENT_STATES, EVENTS_SHOWN } from './words.ts';

// Read when one of theirs is run: help, and a call that is wrong, need neither the database nor Stripe.
const accounts = () => import('./account-commands.ts');
const stripe = () => import('./stripe-commands.ts');
const explaining = () => import('./explain-commands.ts');
const comparing = () => import('./reconcile-commands.ts');
const events = () => import('./event-commands.ts');
const proofs = () => import('./audit-commands.ts');
const exporting = () => import('./audit-export.ts');
const webhooks = () => import('./webhook-commands.ts');

/** What an operator can call, by the words that say how. What each does stands in the file that it loads. */
export const OPERATOR_COMMANDS: readonly Command[] = [
  {
    name: 'accounts create',
    usage: '--email ADDRESS [--scopes LIST] [--json]',
    summary: 'Open an account and issue its first API key',
    options: ['email', 'scopes'],
    run: async (...call) => (await accounts()).accountsCreate(...call),
  },
  {
    name: 'accounts list',
    usage: '[--json]',
    summary: 'List the accounts, newest first',
    options: [],
    run: async (context) => (await accounts()).accountsList(context),
  },
  {
    name: 'accounts set-email',
    usage: `${ACCOUNT} --email ADDRESS [--json]`,
    summary: 'Give an account another address, at Stripe as well; the old one is told',
    options: ['email'],
    words: [ACCOUNT],
    run: async (...call) => (await accounts()).accountsSetEmail(...call),
  },
  {
    name: 'keys issue',
    usage: `${ACCOUNT} [--scopes LIST] [--name NAME] [--expires-at TIME] [--json]`,
    summary: `Issue an API key; scopes are ${SCOPES.join(', ')} (default account_owner)`,
    options: ['scopes', 'name', 'expires-at'],
    words: [ACCOUNT],
    run: async (...call) => (await accounts()).keysIssue(...call),
  },
  {
    name: 'keys list',
    usage: `${ACCOUNT} [--json]`,
    summary: 'List the API keys of an account, newest first',
    options: [],
    words: [ACCOUNT],
    run: async (...call) => (await accounts()).keysList(...call),
  },
  {
    name: 'keys revoke',
    usage: 'KEY_ID [--json]',
    summary: 'Revoke an API key for good, at once',
    options: [],
    words: ['KEY_ID'],
    run: async (...call) => (await accounts()).keysRevoke(...call),
  },
  {
    name: 'stripe setup',
    usage: '[--webhook-url URL] [--portal-return-url URL] [--dry-run] [--json]',
    summary: 'Make products, prices, portal and webhook endpoint in Stripe; safe to repeat',
    options: ['webhook-url', 'portal-return-url'],
    flags: ['dry-run'],
    run: async (...call) => (await stripe()).stripeSetup(...call),
  },
  {
    name: 'explain',
    usage: `${ACCOUNT} [--json]`,
    summary: 'Show where an account stands and everything that led there',
    options: [],
    words: [ACCOUNT],
    run: async (...call) => (await explaining()).explainAccount(...call),
  },
  {
    name: 'reconcile',
    usage: `[${ACCOUNT}] [--dry-run] [--json]`,
    summary: 'Compare one account, or all, with Stripe and repair what differs',
    options: [],
    flags: ['dry-run'],
    words: [ACCOUNT],
    run: async (...call) => (await comparing()).reconcileAccounts(...call),
  },
  {
    name: 'events list',
    usage: `[--state STATE] [--account ${ACCOUNT}] [--json]`,
    summary: `List the newest ${EVENTS_SHOWN} events of Stripe; states are ${EVENT_STATES.join(', ')}`,
    options: ['state', 'account'],
    run: async (...call) => (await events()).eventsList(...call),
  },
  {
    name: 'events show',
    usage: 'EVENT_ID [--json]',
    summary: 'Show one event of Stripe with the body that was signed',
    options: [],
    words: ['EVENT_ID'],
    run: async (...call) => (await events()).eventsShow(...call),
  },
  {
    name: 'events replay',
    usage: '[EVENT_ID | --all-dead] [--json]',
    summary: 'Process events again that were set aside, once their reason is gone',
    options: [],
    flags: ['all-dead'],
    words: ['EVENT_ID'],
    run: async (...call) => (await events()).eventsReplay(...call),
  },
  {
    name: 'audit verify',
    usage: `[${ACCOUNT}] [--json]`,
    summary: 'Check the audit log and the credit ledger of one account, or of all',
    options: [],
    words: [ACCOUNT],
    run: async (...call) => (await proofs()).auditVerify(...call),
  },
  {
    name: 'audit export',
    usage: `${ACCOUNT} --output FILE [--format csv|json] [--action A] [--since T] [--until T] [--json]`,
    summary: 'Write the audit log of an account into a new file',
    options: ['output', 'format', 'action', 'since', 'until'],
    words: [ACCOUNT],
    run: async (...call) => (await exporting()).auditExport(...call),
  },
  {
    name: 'webhooks reencrypt',
    usage: '[--json]',
    summary: 'Encrypt the secrets of webhook endpoints under the first key of WEBHOOK_SECRET_KEY',
    options: [],
    run: async (context) => (await webhooks()).webhooksReencrypt(context),
  },
];
