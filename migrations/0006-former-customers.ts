import { Migration } from '@mikro-orm/migrations';

/**
 * The customers that accounts had and Stripe has deleted. Those that were forgotten before this table existed
 * stand in the audit log, and what arrived for them and was ignored is looked at again.
 */
export class FormerCustomers extends Migration {
  override up(): void {
    this.addSql(`
      create table former_stripe_customer (
        stripe_customer_id text not null,
        account_id uuid not null,
        since timestamptz(3) not null,
        primary key (stripe_customer_id)
      )
    `);
    this.addSql(
      'create index former_stripe_customer_account_id_index on former_stripe_customer (account_id)',
    );
    this.addSql(`
      alter table former_stripe_customer
        add constraint former_stripe_customer_account_id_foreign foreign key (account_id) references account (id)
    `);
    this.addSql(`
      insert into former_stripe_customer (stripe_customer_id, account_id, since)
      select target_resource_id, account_id, occurred_at
        from audit_entry
       where action = 'stripe_customer.deleted' and target_resource_id is not null
    `);
    // Given a job by whoever looks for what waits without one, within a minute or two of the start.
    this.addSql(`
      update stripe_event
         set state = 'received', error = null, processed_at = null
        from former_stripe_customer f
       where state = 'ignored'
         and error = 'No account of ours has the Stripe customer ' || f.stripe_customer_id
    `);
  }
}
