import { formatId } from '../../shared/ids.ts';
import { toWireTime } from '../../shared/time.ts';
import { accountNamed } from './account-word.ts';
import type { CommandContext, Given } from './command.ts';
import { withDatabase } from './database.ts';
import { readTimeline, type Timeline } from './timeline.ts';
import { ACCOUNT } from './words.ts';

/** `explain`: what `commands.ts` says of it. */
export async function explainAccount(
  { config, now, say, answer }: CommandContext,
  given: Given,
): Promise<void> {
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
    pending_tier: timeline.pending?.tier ?? null,
    pending_billing_period: timeline.pending?.billingPeriod ?? null,
    pending_changes_at: timeline.pending && toWireTime(timeline.pending.changesAt),
    ends_at: timeline.endsAt && toWireTime(timeline.endsAt),
    ended_at: timeline.endedAt && toWireTime(timeline.endedAt),
    billing_state: timeline.state,
    waiting_events: waiting.events,
    dead_events: waiting.dead,
    unsent_mails: waiting.mails,
    timeline: happenings.map(({ at, ...rest }) => ({ at: toWireTime(at), ...rest })),
  });
}

function summary(timeline: Timeline): string[] {
  const { account, formerCustomers, state, tier, pending, waiting } = timeline;
  const { subscription, trial_pack: pack } = state;
  const opened = `opened ${toWireTime(account.createdAt)}`;
  const plan = subscription
    ? `${subscription.tier} ${subscription.billing_period}, ${subscription.status}, ${end(subscription, timeline)}`
    : 'never had one';
  const booked = pending
    ? `, ${pending.tier} ${pending.billingPeriod} is booked for ${toWireTime(pending.changesAt)}`
    : '';
  const credit = pack.redeemed
    ? `${pack.active ? 'active' : 'not active'}, ${pack.credit_cents_remaining} cents left, until ${pack.expires_at}`
    : 'never bought';
  return [
    `${formatId('acc', account.id)}  ${account.email}  ${account.stripeCustomerId ?? 'no Stripe customer'}  ${opened}`,
    ...formerCustomers.map(
      ({ id, since }) => `before        ${id}, deleted at Stripe, known since ${toWireTime(since)}`,
    ),
    `tier          ${tier}${booked}`,
    `subscription  ${plan}`,
    `trial pack    ${credit}`,
    `waiting       ${waiting.events} events, ${waiting.dead} given up, ${waiting.mails} mails unsent`,
  ];
}

/** When it ended or will end, or how long the present period is. What grants nothing says so. */
function end(
  { status, current_period_end: periodEnd }: NonNullable<Timeline['state']['subscription']>,
  { tier, endsAt, endedAt }: Timeline,
): string {
  const isOver = status === 'canceled' || status === 'incomplete_expired';
  const moment = endsAt ? `ends ${toWireTime(endsAt)}` : `period until ${periodEnd}`;
  const over = endedAt ? `ended ${toWireTime(endedAt)}` : 'Stripe did not say when it ended';
  return `${isOver ? over : moment}${tier === 'free' ? '; grants nothing' : ''}`;
}
