import { formatId } from '../../shared/ids.ts';
import { toWireTime } from '../../shared/time.ts';
import { ACCOUNT, accountNamed } from './account-word.ts';
import type { Command } from './command.ts';
import { withDatabase } from './database.ts';
import { readTimeline, type Timeline } from './timeline.ts';

/** Answers why an account is on its tier. */
export const EXPLAIN_COMMANDS: readonly Command[] = [
  {
    name: 'explain',
    usage: `${ACCOUNT} [--json]`,
    summary: 'Show where an account stands and everything that led there',
    options: [],
    words: [ACCOUNT],
    async run({ config, now, say, answer }, given) {
      const account = accountNamed(given.word(ACCOUNT));
      const timeline = await withDatabase(config, async (db) => readTimeline(db, await account(db), now()));
      for (const line of summary(timeline)) say(line);
      say('');
      for (const { at, source, name, text } of timeline.happenings) {
        say(`${toWireTime(at)}  ${source.padEnd(6)}  ${name}  ${text}`);
      }
      const { waiting, happenings } = timeline;
      answer({
        account_id: formatId('acc', timeline.account.id),
        email: timeline.account.email,
        stripe_customer_id: timeline.account.stripeCustomerId,
        former_stripe_customers: timeline.formerCustomers.map(({ id, since }) => ({
          stripe_customer_id: id,
          since: toWireTime(since),
        })),
        tier: timeline.tier,
        pending_tier: timeline.pendingTier,
        billing_state: timeline.state,
        waiting_events: waiting.events,
        dead_events: waiting.dead,
        unsent_mails: waiting.mails,
        timeline: happenings.map(({ at, ...rest }) => ({ at: toWireTime(at), ...rest })),
      });
    },
  },
];

function summary({ account, formerCustomers, state, tier, pendingTier, waiting }: Timeline): string[] {
  const { subscription, trial_pack: pack } = state;
  const opened = `opened ${toWireTime(account.createdAt)}`;
  const end = subscription?.cancel_at_period_end ? 'ends' : 'paid until';
  const plan = subscription
    ? `${subscription.tier} ${subscription.billing_period}, ${subscription.status}, ${end} ${subscription.current_period_end}`
    : 'never had one';
  const credit = pack.redeemed
    ? `${pack.active ? 'active' : 'not active'}, ${pack.credit_cents_remaining} cents left, until ${pack.expires_at}`
    : 'never bought';
  return [
    `${formatId('acc', account.id)}  ${account.email}  ${account.stripeCustomerId ?? 'no Stripe customer'}  ${opened}`,
    ...formerCustomers.map(
      ({ id, since }) => `before        ${id}, deleted at Stripe, known since ${toWireTime(since)}`,
    ),
    `tier          ${tier}${pendingTier === null ? '' : `, ${pendingTier} is booked`}`,
    `subscription  ${plan}`,
    `trial pack    ${credit}`,
    `waiting       ${waiting.events} events, ${waiting.dead} given up, ${waiting.mails} mails unsent`,
  ];
}
