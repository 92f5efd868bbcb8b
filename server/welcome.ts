import type { Running } from './start.ts';

/** One screen for a newcomer: where everything is, and the first call to make. */
export function welcome({ url, local }: Running, tookMs: number): string {
  const stripe = local?.stripeUrl ?? '';
  const key = local?.demo?.apiKey;
  const call = (method: string, path: string, body?: string): string =>
    `curl -s${method === 'GET' ? '' : ` -X ${method}`} ${url}${path} -H 'Authorization: Bearer ${key ?? '$API_KEY'}'${
      body === undefined ? '' : ` \\\n     -H 'Content-Type: application/json' -d '${body}'`
    }`;
  return `
  Driftstack Billing is ready after ${(tookMs / 1000).toFixed(1)} s. Everything runs on this machine; no money moves.

  API            ${url}/v1/billing
  API key        ${key ?? 'issue one: npm run --silent cli -- accounts create --email you@your.app'}
  Console        ${stripe}/console       what happened, clock, faults
  Mailbox        ${stripe}/mailbox       every mail this service sends
  API reference  ${url}/docs

  1. What the account has:

     ${call('GET', '/v1/billing')}

  2. Start a subscription, then open the checkout_url it answers and pay with a test card:

     ${call('POST', '/v1/billing/checkout-session', '{"tier":"api_builder","billing_period":"monthly"}')}

  3. Change or cancel it in the portal_url of:

     ${call('POST', '/v1/billing/portal-session', '{}')}

  Ctrl-C stops everything; starting again keeps the data (.data).
`;
}
