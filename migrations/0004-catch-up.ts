import { Migration } from '@mikro-orm/migrations';

/** Where the tasks stand that look after what Stripe did not tell, and an index of the events given up. */
export class CatchUp extends Migration {
  override up(): void {
    this.addSql(`
      create table recurring_task (
        name text not null,
        next_run_at timestamptz(3) not null,
        progress jsonb not null,
        primary key (name)
      )
    `);
    this.addSql("create index stripe_event_dead on stripe_event (received_at) where state = 'dead'");
  }
}
