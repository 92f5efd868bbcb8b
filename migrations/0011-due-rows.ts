import { Migration } from '@mikro-orm/migrations';

/**
 * Rows that say themselves when they are due, in place of the jobs that said so beside them. What waits becomes due
 * at once, and what a version before this one adds meanwhile is due because of the defaults; it and this one may run
 * side by side, and both may do the same work, which does no harm.
 */
export class DueRows extends Migration {
  override up(): void {
    this.addSql(`
      create table account_sync (
        account_id uuid not null primary key,
        wanted bigint not null default '0',
        done bigint not null default '0',
        due_at timestamptz(3) null,
        lease uuid null,
        leased_until timestamptz(3) null,
        attempts int not null default 0,
        reason text null,
        constraint account_sync_account_id_foreign foreign key (account_id) references account (id)
          on update cascade on delete cascade
      )
    `);
    this.addSql('create index account_sync_due on account_sync (due_at) where due_at is not null');
    // The default comes after the column, so that no old row is due for it.
    this.addSql(`
      alter table stripe_event
        add column due_at timestamptz(3) null, add column lease uuid null, add column leased_until timestamptz(3) null
    `);
    this.addSql('alter table stripe_event alter column due_at set default now()');
    this.addSql("update stripe_event set due_at = now() where state = 'received'");
    this.addSql('create index stripe_event_due on stripe_event (due_at) where due_at is not null');
    this.addSql(`
      alter table email
        add column due_at timestamptz(3) null, add column lease uuid null, add column leased_until timestamptz(3) null,
        add column batch_id uuid null
    `);
    this.addSql('alter table email alter column due_at set default now()');
    this.addSql("update email set due_at = now() where state = 'pending'");
    this.addSql('create index email_due on email (due_at) where due_at is not null');
    this.addSql('create index email_batch_id_index on email (batch_id)');
    this.addSql('create table pace (name text not null primary key, free_at timestamptz(3) not null)');
    this.addSql('alter table trial_pack add column due_at timestamptz(3) null');
    this.addSql("update trial_pack set due_at = now() where state in ('active', 'suspended')");
    this.addSql('create index trial_pack_due on trial_pack (due_at) where due_at is not null');
  }
}
