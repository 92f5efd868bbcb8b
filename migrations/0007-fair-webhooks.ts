import { Migration } from '@mikro-orm/migrations';

/**
 * What an endpoint's place in the line of a dispatcher is told by, how many deliveries stand where so that nobody
 * counts a whole history, and the given-up deliveries by their event.
 */
export class FairWebhooks extends Migration {
  override up(): void {
    this.addSql(`
      alter table webhook_endpoint
        add pace_ms int not null default 0,
        add served_at timestamptz(3) null,
        add delivered_count bigint not null default '0',
        add failed_count bigint not null default '0',
        add dlq_count bigint not null default '0'
    `);
    // One that is being tried at this moment, and was before, counts as failed until its outcome is written down.
    this.addSql(`
      update webhook_endpoint e set
        delivered_count = d.delivered, failed_count = d.failed, dlq_count = d.dlq
      from (
        select endpoint_id,
               count(*) filter (where state = 'delivered') as delivered,
               count(*) filter (where state = 'failed' or (state = 'in_flight' and attempts > 0)) as failed,
               count(*) filter (where state = 'dlq') as dlq
          from webhook_delivery group by 1) d
      where d.endpoint_id = e.id
    `);
    this.addSql('drop index webhook_delivery_dead');
    this.addSql(
      "create index webhook_delivery_dead on webhook_delivery (endpoint_id, event_id) where state = 'dlq'",
    );
  }
}
