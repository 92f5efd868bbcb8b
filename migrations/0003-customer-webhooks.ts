import { Migration } from '@mikro-orm/migrations';

/** The event feed of each account, webhook endpoints and the deliveries to them. */
export class CustomerWebhooks extends Migration {
  override up(): void {
    this.#account();
    this.#event();
    this.#webhookEndpoint();
    this.#webhookDelivery();
  }

  #account(): void {
    this.addSql(`
      alter table account
        add event_sequence bigint not null default '0',
        add webhook_position bigint not null default '0'
    `);
  }

  #event(): void {
    this.addSql(`
      create table event (
        id uuid not null,
        account_id uuid not null,
        sequence bigint not null,
        type text not null,
        data jsonb not null,
        dedupe_key text not null,
        emitted_at timestamptz(3) not null,
        primary key (id)
      )
    `);
    this.addSql(`
      alter table event
        add constraint event_dedupe_key_unique unique (dedupe_key)
    `);
    this.addSql(`
      alter table event
        add constraint event_sequence unique (account_id, sequence)
    `);
    this.addSql(`
      alter table event
        add constraint event_account_id_foreign foreign key (account_id) references account (id)
    `);
    this.addSql(`
      create or replace function event_append_only_fn() returns trigger as $$
      begin
        raise exception '% is append-only', tg_table_name using errcode = 'restrict_violation';
      end;
      $$ language plpgsql
    `);
    this.addSql(`
      create trigger append_only before delete or update on event
        for each statement execute function event_append_only_fn()
    `);
    this.addSql(`
      create trigger append_only_truncate before truncate on event
        for each statement execute function event_append_only_fn()
    `);
  }

  #webhookEndpoint(): void {
    this.addSql(`
      create table webhook_endpoint (
        id uuid not null,
        account_id uuid not null,
        position bigint not null,
        url text not null,
        description text null,
        events text[] not null,
        active boolean not null default true,
        secret bytea not null,
        secret_prefix text not null,
        prev_secret bytea null,
        prev_secret_prefix text null,
        rotation_grace_expires_at timestamptz(3) null,
        consecutive_failures int not null default 0,
        failing_since timestamptz(3) null,
        last_success_at timestamptz(3) null,
        last_failure_at timestamptz(3) null,
        disabled_at timestamptz(3) null,
        deleted_at timestamptz(3) null,
        created_at timestamptz(3) not null,
        next_due_at timestamptz(3) null,
        held_until timestamptz(3) null,
        lease_id uuid null,
        leased_until timestamptz(3) null,
        primary key (id)
      )
    `);
    this.addSql('create index webhook_endpoint_account_id_index on webhook_endpoint (account_id)');
    this.addSql(
      'create index webhook_endpoint_due on webhook_endpoint (next_due_at) where active and deleted_at is null',
    );
    this.addSql(`
      alter table webhook_endpoint
        add constraint webhook_endpoint_account_id_foreign foreign key (account_id) references account (id)
    `);
  }

  #webhookDelivery(): void {
    this.addSql(`
      create table webhook_delivery (
        id uuid not null,
        account_id uuid not null,
        endpoint_id uuid not null,
        position bigint not null,
        event_id uuid not null,
        event_type text not null,
        state text not null,
        replay_of uuid null,
        attempts int not null default 0,
        next_attempt_at timestamptz(3) null,
        last_attempt_at timestamptz(3) null,
        response_status int null,
        response_excerpt text null,
        error text null,
        duration_ms int null,
        delivered_at timestamptz(3) null,
        created_at timestamptz(3) not null,
        primary key (id)
      )
    `);
    this.addSql(`
      alter table webhook_delivery
        add constraint webhook_delivery_position unique (account_id, position)
    `);
    this.addSql('create index webhook_delivery_state on webhook_delivery (endpoint_id, state, position)');
    this.addSql('create index webhook_delivery_list on webhook_delivery (endpoint_id, position)');
    this.addSql(
      "create index webhook_delivery_open on webhook_delivery (endpoint_id, position) where state in ('pending', 'in_flight', 'failed')",
    );
    this.addSql(`
      alter table webhook_delivery
        add constraint webhook_delivery_state_check check (state in ('pending', 'in_flight', 'delivered', 'failed', 'dlq'))
    `);
    this.addSql(`
      alter table webhook_delivery
        add constraint webhook_delivery_account_id_foreign foreign key (account_id) references account (id)
    `);
    this.addSql(`
      alter table webhook_delivery
        add constraint webhook_delivery_endpoint_id_foreign foreign key (endpoint_id) references webhook_endpoint (id)
    `);
  }
}
