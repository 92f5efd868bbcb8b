import { randomBytes } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type Stripe from 'stripe';
import { decodeForm } from '../../server/local-stripe/form.ts';
import { CATALOGUE, TRIAL_PACK } from '../../shared/catalog.ts';

/** An object as Stripe holds it; tests write the members their case needs. */
export type Thing = { id: string; object: string; [member: string]: unknown };

export type Call = { method: string; path: string; idempotencyKey: string | null; body: string };

/** What happens to a call instead of, or before, its answer. */
export type Fault =
  | { kind: 'answer'; status: number; body: string; headers?: Record<string, string> }
  /** The call takes effect and its answer is lost. */
  | { kind: 'lost_answer' }
  /** The call takes effect and nothing ever comes back. */
  | { kind: 'hang_after' }
  | { kind: 'hang' };

type Answer = { status: number; body: unknown };

/**
 * A Stripe that does exactly what a test tells it: things are put in by hand, the few calls that create or end
 * something do so, idempotency keys count, and any call can be made to fail, hang or wait.
 */
export type ScriptedStripe = Awaited<ReturnType<typeof startScriptedStripe>>;

export async function startScriptedStripe() {
  const things = new Map<string, Thing>();
  const calls: Call[] = [];
  const answers = new Map<string, { body: string; answer: Promise<Answer> }>();
  let interfere: (call: Call) => Promise<Fault | undefined> | Fault | undefined = () => undefined;
  let created = 1_760_000_000;

  const put = <T extends Thing>(thing: T): T => {
    things.set(thing.id, thing);
    return thing;
  };
  const change = (id: string, members: Record<string, unknown>): Thing => {
    const thing = things.get(id);
    if (!thing) throw new Error(`the scripted Stripe has no ${id}`);
    return put({ ...thing, ...members, id, object: thing.object });
  };
  const all = (object: string): Thing[] =>
    [...things.values()].filter((thing) => thing.object === object).reverse();
  const newId = (prefix: string) => `${prefix}_${randomBytes(8).toString('hex')}`;

  for (const key of [...CATALOGUE.map(({ lookupKey }) => lookupKey), TRIAL_PACK.lookupKey]) {
    put({
      id: `price_${key}`,
      object: 'price',
      lookup_key: key,
      active: true,
      metadata: {},
      product: 'prod_1',
    });
  }

  const create = (object: string, prefix: string, members: Record<string, unknown>): Answer => ({
    status: 200,
    body: put({ id: newId(prefix), object, created: created++, livemode: false, ...members }),
  });

  /** A refund counts on the charge that a test has put into the payment, if it has. */
  const refund = (body: Params): Answer => {
    const intent = things.get(String(body['payment_intent']));
    const charge = intent?.['latest_charge'];
    if (intent && isCharge(charge)) {
      const left = charge.amount - charge.amount_refunded;
      const amount = Number(body['amount'] ?? left);
      if (left === 0) return refusal('It has already been refunded.', 'charge_already_refunded');
      if (charge.disputed === true) return refusal('It has been charged back.', 'charge_disputed');
      if (amount > left) return refusal('Refund amount is greater than unrefunded amount on charge.');
      put({ ...intent, latest_charge: { ...charge, amount_refunded: charge.amount_refunded + amount } });
    }
    return create('refund', 're', body);
  };

  const route = (method: string, path: string, query: Params, body: Params): Answer => {
    const [, , first = '', second = '', third = '', fourth = ''] = path.split('/');
    const sessions = first === 'checkout' && second === 'sessions';
    const collection = sessions || first === 'billing_portal' ? `${first}/${second}` : first;
    const id = collection.includes('/') ? third : second;
    const action = collection.includes('/') ? fourth : third;
    if (method === 'GET' && id === '') {
      const listed = list(collection, query, all);
      return { status: 200, body: { ...listed, data: listed.data.map(withLinesSold) } };
    }
    const invoice = method === 'GET' && action === 'lines' ? things.get(id) : undefined;
    if (invoice) return { status: 200, body: linesOf(invoice, query) };
    if (method === 'GET' && action === 'line_items')
      return { status: 200, body: things.get(id)?.['line_items'] ?? linesSold([], () => undefined) };
    if (method === 'GET') return found(id);
    if (method === 'DELETE' && collection === 'subscriptions') {
      if (things.get(id)?.['status'] === 'canceled') return missing(id);
      const details = body['cancellation_details'] ?? query['cancellation_details'];
      return { status: 200, body: change(id, { status: 'canceled', cancellation_details: details ?? null }) };
    }
    if (sessions && action === 'expire') {
      if (things.get(id)?.['status'] !== 'open') return refusal('This session is not open.');
      return { status: 200, body: change(id, { status: 'expired', url: null }) };
    }
    switch (collection) {
      case 'customers':
        return create('customer', 'cus', body);
      case 'checkout/sessions':
        return create('checkout.session', 'cs_test', {
          ...body,
          client_reference_id: body['client_reference_id'] ?? null,
          expires_at: Number(body['expires_at'] ?? created + 86_400),
          status: 'open',
          payment_status: 'unpaid',
          payment_intent: null,
          subscription: null,
          url: `https://checkout.stripe.test/${newId('c')}`,
        });
      case 'billing_portal/sessions':
        return create('billing_portal.session', 'bps', {
          ...body,
          url: `https://billing.stripe.test/${newId('p')}`,
        });
      case 'refunds':
        return refund(body);
      case 'invoices':
        return found('upcoming');
      default:
        return refusal(`Unrecognized request URL (${method}: ${path}).`);
    }
  };
  const found = (id: string): Answer => {
    const thing = things.get(id);
    return thing ? { status: 200, body: withLinesSold(withFirstLines(thing)) } : missing(id);
  };
  /** A session keeps the lines it was made with, and shows them as Stripe does. */
  const withLinesSold = (thing: Thing): Thing =>
    Array.isArray(thing['line_items'])
      ? { ...thing, line_items: linesSold(thing['line_items'], (id) => things.get(id)) }
      : thing;

  const answerTo = (call: Call): Promise<Answer> => {
    const url = new URL(call.path, 'http://stripe.test');
    const run = async () =>
      route(
        call.method,
        url.pathname,
        decodeForm(url.search.slice(1)),
        decodeForm(call.body),
      ) satisfies Answer;
    if (call.idempotencyKey === null || call.method === 'GET') return run();
    const earlier = answers.get(call.idempotencyKey);
    if (!earlier) {
      const answer = run();
      answers.set(call.idempotencyKey, { body: call.body, answer });
      return answer;
    }
    if (earlier.body === call.body) return earlier.answer;
    const error = { type: 'idempotency_error', message: 'Keys can only be used with the same parameters.' };
    return Promise.resolve({ status: 400, body: { error } });
  };

  const serve = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    const key = request.headers['idempotency-key'];
    const call = {
      method: request.method ?? '',
      path: request.url ?? '',
      idempotencyKey: typeof key === 'string' ? key : null,
      body: Buffer.concat(chunks).toString(),
    };
    calls.push(call);
    const fault = await interfere(call);
    if (fault?.kind === 'hang') return;
    if (fault?.kind === 'answer') {
      response.writeHead(fault.status, { 'content-type': 'application/json', ...fault.headers });
      response.end(fault.body);
      return;
    }
    // The body as it is now: a replay must show the object as it was at its creation.
    const { status, body } = await answerTo(call);
    const text = JSON.stringify(body);
    if (fault?.kind === 'hang_after') return;
    if (fault?.kind === 'lost_answer') {
      request.socket.destroy();
      return;
    }
    response.writeHead(status, { 'content-type': 'application/json' });
    response.end(text);
  };
  const server = createServer((request, response) => void serve(request, response));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  // A server that listens on a port has an address with one.
  const { port } = server.address() as AddressInfo;

  return {
    url: `http://127.0.0.1:${port}`,
    calls,
    put,
    change,
    forget: (id: string) => things.delete(id),
    all,
    newId,
    /** What Stripe does with idempotency keys after a day. */
    forgetKeys: () => answers.clear(),
    /** Decides the fate of every call from now on. */
    interfere: (fate: typeof interfere) => {
      interfere = fate;
    },
    close: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

type Params = Record<string, unknown>;

type Charge = { amount: number; amount_refunded: number; disputed?: boolean };

const isCharge = (value: unknown): value is Charge =>
  typeof value === 'object' && value !== null && 'amount' in value && 'amount_refunded' in value;

const OBJECTS: Record<string, string> = {
  'checkout/sessions': 'checkout.session',
  'billing_portal/configurations': 'billing_portal.configuration',
  customers: 'customer',
  subscriptions: 'subscription',
  prices: 'price',
  invoices: 'invoice',
  invoice_payments: 'invoice_payment',
  disputes: 'dispute',
};

/** What a session that sells the trial pack shows of it. */
export const PACK_LINES = {
  object: 'list',
  has_more: false,
  data: [
    {
      object: 'item',
      price: { id: `price_${TRIAL_PACK.lookupKey}`, object: 'price', lookup_key: TRIAL_PACK.lookupKey },
      quantity: 1,
      amount_total: 299,
    },
  ],
};

/** The lines of a session as Stripe shows them, of the prices it was made with. */
function linesSold(given: unknown[], find: (id: string) => Thing | undefined) {
  // As the form's fields were read: names and texts.
  const lines = given as { price: string; quantity?: string }[];
  const data = lines.map(({ price, quantity = '1' }) => ({
    object: 'item',
    price: find(price) ?? { id: price, object: 'price' },
    quantity: Number(quantity),
    amount_total: 299 * Number(quantity),
  }));
  return { object: 'list', data, has_more: false };
}

/** Newest first, 1 to 100 at a time, ten unless told, after the one named. */
function list(collection: string, query: Params, all: (object: string) => Thing[]) {
  const { limit = 10, starting_after: after } = query;
  const { lookup_keys: keys, customer, invoice, payment_intent: intent, subscription, status, email } = query;
  const payment = query['payment'] as { payment_intent?: string } | undefined;
  const data = all(OBJECTS[collection] ?? collection).filter(
    (thing) =>
      thing['deleted'] !== true &&
      (!Array.isArray(keys) || keys.includes(thing['lookup_key'])) &&
      (customer === undefined || thing['customer'] === customer) &&
      (invoice === undefined || thing['invoice'] === invoice) &&
      (intent === undefined || thing['payment_intent'] === intent) &&
      (payment === undefined || paymentOf(thing) === payment.payment_intent) &&
      (email === undefined || thing['email'] === email) &&
      (subscription === undefined || subscriptionOf(thing) === subscription) &&
      (collection !== 'invoices' || status === undefined || thing['status'] === status),
  );
  const from = after === undefined ? 0 : data.findIndex(({ id }) => id === after) + 1;
  const page = data.slice(from, from + Number(limit)).map(withFirstLines);
  const has_more = data.length > from + page.length;
  return { object: 'list', data: page, has_more, url: `/v1/${collection}` };
}

/** Stripe puts the first ten lines into an invoice and says whether there are more. */
const INLINE = 10;

function withFirstLines(thing: Thing): Thing {
  if (thing.object !== 'invoice' || thing['lines'] === undefined) return thing;
  return { ...thing, lines: linesOf(thing, { limit: INLINE }) };
}

/** `GET /v1/invoices/:id/lines`: 1 to 100 at a time, after the one named. */
function linesOf(invoice: Thing, { limit, starting_after: after }: Params) {
  // Tests write the lines as Stripe does.
  const { data } = invoice['lines'] as { data: readonly { id?: string }[] };
  const from = after === undefined ? 0 : data.findIndex(({ id }) => id === after) + 1;
  const to = from + Number(limit ?? INLINE);
  return {
    object: 'list',
    data: data.slice(from, to),
    has_more: data.length > to,
    url: `/v1/invoices/${invoice.id}/lines`,
  };
}

/** The payment that settled an invoice. */
function paymentOf(thing: Thing): unknown {
  return (thing['payment'] as { payment_intent?: string } | undefined)?.payment_intent;
}

function subscriptionOf({ parent }: Thing): unknown {
  // Tests write what an invoice was made for as Stripe does.
  return (parent as Stripe.Invoice['parent'] | undefined)?.subscription_details?.subscription;
}

const missing = (id: string): Answer => ({
  status: 404,
  body: {
    error: { type: 'invalid_request_error', code: 'resource_missing', message: `No such object: ${id}` },
  },
});

const refusal = (message: string, code?: string): Answer => ({
  status: 400,
  body: { error: { type: 'invalid_request_error', code, message } },
});
