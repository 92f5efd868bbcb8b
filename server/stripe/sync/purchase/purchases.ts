import type { Tx } from '../../../database/connection.ts';
import { FormerStripeCustomer } from '../../../database/entities/account.ts';
import { CheckoutAttempt, TrialPack } from '../../../database/entities/billing.ts';
import type { StripeCalls } from '../../api/gateway.ts';
import { type Fact, readPurchaseOf } from '../facts.ts';
import type { Ours } from '../ours.ts';
import { readBareCharges } from './bare-charge.ts';
import type { Known } from './by-invoice.ts';
import { packOn, readPackFacts, readSessionFacts } from './by-session.ts';
import type { PackPurchase } from './purchase.ts';

/** An older invoice or charge was not paid a moment ago, and what it was for was seen by the nights since. */
const INVOICES_MS = 90 * 86_400_000;

/** Everything that the account bought or may yet pay for, the pack that was granted first. */
export async function readPurchases(
  tx: Tx,
  stripe: StripeCalls,
  { id: accountId, stripeCustomerId, createdAt }: Ours['account'],
  { known, now }: { known: Known; now: Date },
): Promise<Fact[]> {
  const { catalogue } = known;
  const state = { $in: ['open', 'closing', 'awaiting_payment'] as const };
  const attempts = await tx.find(CheckoutAttempt, { accountId, state });
  const former = await tx.find(FormerStripeCustomer, { accountId });
  const held = await tx.findOne(TrialPack, { accountId });
  const sinceS = Math.floor((now.getTime() - INVOICES_MS) / 1_000);
  const found = new Map<string, { fact: Fact; pack: PackPurchase }>();
  const facts: Fact[] = [];
  for (const customer of [stripeCustomerId ?? [], former.map((one) => one.stripeCustomerId)].flat(2)) {
    const sessions = await stripe.listCompletedSessions(customer);
    for (const facts of await readPackFacts(stripe, catalogue, sessions)) {
      if (facts.pack) found.set(facts.pack.sessionId, { fact: { kind: 'session', facts }, pack: facts.pack });
    }
    const invoices = await stripe.listInvoicesPaidBy(customer, sinceS);
    for (const invoice of invoices) {
      const pack = await packOn(stripe, known, invoice);
      if (pack && !found.has(pack.sessionId))
        found.set(pack.sessionId, { fact: { kind: 'pack', pack }, pack });
    }
    // What was paid before there was the account was not paid to it.
    const since = Math.max(sinceS, Math.floor(createdAt.getTime() / 1_000));
    const charges = await readBareCharges(tx, stripe, {
      customer,
      sinceS: since,
      explained: { sessions, invoices },
    });
    facts.push(...charges.map((charge): Fact => ({ kind: 'bare_charge', charge })));
  }
  for (const { stripeSessionId } of attempts) {
    if (!stripeSessionId || found.has(stripeSessionId)) continue;
    const read = await readSessionFacts(stripe, catalogue, stripeSessionId);
    if (read) facts.push({ kind: 'session', facts: read });
  }
  // Nothing becomes of a pack for which nothing was charged.
  if (held?.paymentIntent.startsWith('pi_') && !found.has(held.stripeSessionId))
    facts.push(await readPurchaseOf(stripe, catalogue, held.paymentIntent));
  const paidAt = ({ pack }: { pack: PackPurchase }) =>
    pack.sessionId === held?.stripeSessionId ? 0 : pack.paidAt.getTime();
  const packs = [...found.values()].sort((a, b) => paidAt(a) - paidAt(b));
  return [...facts, ...packs.map(({ fact }) => fact)];
}
