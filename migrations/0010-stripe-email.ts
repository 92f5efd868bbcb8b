import { Migration } from '@mikro-orm/migrations';

/**
 * The address that Stripe's customer was last seen with. Until now no address could be changed here, so the
 * customers were made with ours: what differs by now was changed in the portal.
 */
export class StripeEmail extends Migration {
  override up(): void {
    this.addSql('alter table account add stripe_email text null');
    this.addSql('update account set stripe_email = email where stripe_customer_id is not null');
  }
}
