import { Migration } from '@mikro-orm/migrations';

/**
 * The moments of a subscription as Stripe holds them. A row that is there says from now on what its customer was
 * told: that an end or a booked change comes with the end of the period, and that a booked change keeps how often
 * is paid. So the next look at Stripe finds nothing to tell where that was right, and tells what was not.
 */
export class Moments extends Migration {
  override up(): void {
    this.addSql(`
      alter table subscription
        add column pending_billing_period text null,
        add column pending_changes_at timestamptz(3) null,
        add column ends_at timestamptz(3) null,
        add column ended_at timestamptz(3) null
    `);
    this.addSql('update subscription set ends_at = current_period_end where cancel_at_period_end');
    this.addSql(`
      update subscription
        set pending_billing_period = billing_period, pending_changes_at = current_period_end
        where pending_tier is not null
    `);
  }
}
