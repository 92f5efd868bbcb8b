import type { Running } from './start.ts';

/** One screen for a newcomer: where everything is, and the first calls to make. */
export function welcome({ url, local }: Running, tookMs: number): string {
  const stripe = local?.stripeUrl ?? '';
  const key =
    local?.demo?.apiKey ??
    '$(npm run --silent cli -- accounts create --email you@your.app | grep -o "ds_live_.*")';
  const authorization = '-H "Authorization: Bearer $KEY"';
  return `
  Driftstack Billing is ready after ${(tookMs / 1000).toFixed(1)} s. Everything runs on this machine; no money moves.

  API            ${url}
  Console        ${stripe}/console    what happened, clock, faults
  Mailbox        ${stripe}/mailbox    every mail this service sends
  API reference  ${url}/docs

  In another terminal, with a key of the ${local?.demo ? 'demo account' : 'account you create'}:

    export API=${url} KEY=${key}

  What the account has, and a subscription to it: open the checkout_url and pay with a test card.

    curl -s $API/v1/billing ${authorization}
    curl -s -X POST $API/v1/billing/checkout-session ${authorization} \\
         -H 'Content-Type: application/json' -d '{"tier":"api_builder","billing_period":"monthly"}'

  Change or cancel it in the customer portal, or buy the trial pack:

    curl -s -X POST $API/v1/billing/portal-session ${authorization}
    curl -s -X POST $API/v1/billing/trial-pack ${authorization}

  Ctrl-C stops everything. Starting again keeps the data.
`;
}
