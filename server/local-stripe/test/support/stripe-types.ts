import { execFile } from 'node:child_process';
import { cp, mkdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

const ROOT = new URL('../../../../', import.meta.url).pathname;
const MODULES = join(ROOT, 'node_modules');

/** The SDK's type of each kind of object, by its `object` field. */
const TYPES: Readonly<Record<string, string>> = {
  balance_transaction: 'Stripe.BalanceTransaction',
  'billing_portal.configuration': 'Stripe.BillingPortal.Configuration',
  'billing_portal.session': 'Stripe.BillingPortal.Session',
  charge: 'Stripe.Charge',
  'checkout.session': 'Stripe.Checkout.Session',
  customer: 'Stripe.Customer',
  dispute: 'Stripe.Dispute',
  invoice: 'Stripe.Invoice',
  invoice_payment: 'Stripe.InvoicePayment',
  invoiceitem: 'Stripe.InvoiceItem',
  item: 'Stripe.LineItem',
  line_item: 'Stripe.InvoiceLineItem',
  payment_intent: 'Stripe.PaymentIntent',
  payment_method: 'Stripe.PaymentMethod',
  price: 'Stripe.Price',
  product: 'Stripe.Product',
  refund: 'Stripe.Refund',
  setup_intent: 'Stripe.SetupIntent',
  subscription: 'Stripe.Subscription',
  subscription_item: 'Stripe.SubscriptionItem',
  subscription_schedule: 'Stripe.SubscriptionSchedule',
  'test_helpers.test_clock': 'Stripe.TestHelpers.TestClock',
  webhook_endpoint: 'Stripe.WebhookEndpoint',
};

const DELETED: Readonly<Record<string, string>> = {
  customer: 'Stripe.DeletedCustomer',
  invoice: 'Stripe.DeletedInvoice',
  invoiceitem: 'Stripe.DeletedInvoiceItem',
  product: 'Stripe.DeletedProduct',
  subscription_item: 'Stripe.DeletedSubscriptionItem',
  'test_helpers.test_clock': 'Stripe.TestHelpers.DeletedTestClock',
  webhook_endpoint: 'Stripe.DeletedWebhookEndpoint',
};

/** The SDK's type of an answer or event as it comes over the wire; throws for an object the SDK does not know. */
export function typeOf(value: object): string {
  const { object, deleted, type } = value as Record<string, unknown>; // any JSON object has these or not
  // The one object that Stripe documents as having no id, though the type demands it.
  if (type === 'invoice.upcoming')
    return "Omit<Stripe.InvoiceUpcomingEvent, 'data'> & { data: { object: Omit<Stripe.Invoice, 'id'> } }";
  if (object === 'event') return `Extract<Stripe.Event, { type: ${JSON.stringify(type)} }>`;
  if (object === 'list') return 'Stripe.ApiList<never>';
  const name = (deleted === true ? DELETED : TYPES)[String(object)];
  if (name === undefined) throw new Error(`the SDK has no type for ${JSON.stringify(value).slice(0, 200)}`);
  return name;
}

/**
 * Of objects that look the same (members, their types, words that may be of an enum) the first. A list is taken
 * apart: its envelope, and what it lists.
 */
export function oneOfEachShape(values: readonly object[]): object[] {
  const seen = new Map<string, object>();
  for (const value of values.flatMap(parts)) {
    const shape = shapeOf(value);
    if (!seen.has(shape)) seen.set(shape, value);
  }
  return [...seen.values()];
}

function parts(value: object): object[] {
  if (!('object' in value && value.object === 'list' && 'data' in value && Array.isArray(value.data)))
    return [value];
  return [{ ...value, data: [] }, ...value.data];
}

function shapeOf(value: unknown): string {
  if (Array.isArray(value)) return `[${[...new Set(value.map(shapeOf))].join()}]`;
  if (typeof value === 'object' && value !== null)
    return `{${Object.entries(value).map(([name, member]) => `${name}:${name === 'metadata' ? '' : shapeOf(member)}`)}}`;
  if (typeof value !== 'string') return value === null ? 'null' : typeof value;
  return /^[a-z]+([_.][a-z]+)*$/.test(value) ? value : 'text';
}

/**
 * Compiles each value as a literal of its SDK type and answers what the compiler finds: missing and excess members,
 * wrong types, words that are not of the enum. Two things are stricter here than in the SDK: its enums are closed
 * (it leaves them open for what Stripe may add), and decimals are the strings they are on the wire.
 */
export async function typeErrors(values: readonly object[]): Promise<string[]> {
  const folder = join(MODULES, '.cache', `stripe-types-${process.pid}-${Date.now()}`);
  await mkdir(join(folder, 'node_modules'), { recursive: true });
  try {
    await closedTypes(join(folder, 'node_modules', 'stripe'));
    await symlink(join(MODULES, '@types'), join(folder, 'node_modules', '@types'));
    await writeFile(join(folder, 'values.ts'), source(values));
    await writeFile(
      join(folder, 'tsconfig.json'),
      JSON.stringify({
        compilerOptions: {
          target: 'es2024',
          module: 'nodenext',
          strict: true,
          exactOptionalPropertyTypes: true,
          skipLibCheck: true,
          noEmit: true,
          types: ['node'],
        },
        files: ['values.ts'],
      }),
    );
    await writeFile(join(folder, 'package.json'), JSON.stringify({ type: 'module' }));
    return await compile(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function closedTypes(folder: string): Promise<void> {
  const from = join(MODULES, 'stripe');
  await cp(join(from, 'package.json'), join(folder, 'package.json'));
  await cp(join(from, 'esm'), join(folder, 'esm'), {
    recursive: true,
    filter: (path) => !/\.(js|map)$/.test(path),
  });
  await replace(
    join(folder, 'esm', 'shared.d.ts'),
    'export type OtherString = string & Record<never, never>;',
    'export type OtherString = never;',
  );
  await replace(
    join(folder, 'esm', 'shared.d.ts'),
    "export { Decimal } from './Decimal.js';",
    'export type Decimal = string;',
  );
}

async function replace(path: string, before: string, after: string): Promise<void> {
  const text = await readFile(path, 'utf8');
  if (!text.includes(before)) throw new Error(`${path} no longer says: ${before}`);
  await writeFile(path, text.replace(before, after));
}

function source(values: readonly object[]): string {
  const constants = values.map(
    (value, index) => `export const x${index}: ${typeOf(value)} = ${JSON.stringify(value, null, 1)};`,
  );
  return `import type Stripe from 'stripe';\n${constants.join('\n')}\n`;
}

async function compile(folder: string): Promise<string[]> {
  const output = await new Promise<string>((resolve, reject) => {
    const compiler = join(MODULES, '.bin', 'tsc');
    execFile(
      compiler,
      ['-p', folder, '--pretty', 'false'],
      { cwd: folder, maxBuffer: 64 * 1024 * 1024 },
      (error, stdout, stderr) =>
        error !== null && typeof error.code !== 'number' ? reject(error) : resolve(stdout + stderr),
    );
  });
  const lines = (await readFile(join(folder, 'values.ts'), 'utf8')).split('\n');
  return output
    .split(/\n(?=\S)/)
    .filter((error) => error.trim() !== '')
    .map((error) => located(error, lines));
}

/** An error with the constant it is in and the line it is about. */
function located(error: string, lines: readonly string[]): string {
  const line = Number(/values\.ts\((\d+),/.exec(error)?.[1] ?? 0);
  if (line === 0) return error;
  const start = lines.findLastIndex((text, at) => at < line && text.startsWith('export const'));
  return `${lines[start]?.slice(13, 120)} at ${lines[line - 1]?.trim().slice(0, 100)}: ${error.replace(/^\S+ error /, '')}`;
}
