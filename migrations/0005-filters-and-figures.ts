import { Migration } from '@mikro-orm/migrations';

/**
 * Indexes: for pages of the audit log by time, whose moments are compared within the index however far back they
 * lie; and for the figures of webhooks, which are read at every scrape.
 */
export class FiltersAndFigures extends Migration {
  override up(): void {
    this.addSql('create index audit_entry_time on audit_entry (account_id, position, occurred_at)');
    this.addSql('drop index audit_entry_action');
    this.addSql('create index audit_entry_action on audit_entry (account_id, action, position, occurred_at)');
    this.addSql("create index webhook_delivery_dead on webhook_delivery (endpoint_id) where state = 'dlq'");
    this.addSql(
      'create index webhook_endpoint_paused on webhook_endpoint (account_id) where not active and deleted_at is null',
    );
  }
}
