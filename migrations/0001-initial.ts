import { Migration } from '@mikro-orm/migrations';

/** The tables of the first version. */
export class Initial extends Migration {
  override up(): void {
    this.#account();
    this.#apiKey();
    this.#idempotencyKey();
    this.#subscription();
    this.#price();
    this.#checkoutAttempt();
    this.#trialPack();
    this.#creditEntry();
    this.#stripeEvent();
    this.#auditEntry();
    this.#email();
  }

  #account(): void {
    this.addSql(`
      create table account (
        id uuid not null,
        email text not null,
        stripe_customer_id text null,
        stripe_customer_generation int not null default 0,
        receipt_emails boolean not null default true,
        tier_change_emails boolean not null default true,
        renewal_emails boolean not null default true,
        audit_position bigint not null default '0',
        audit_hash bytea null,
        created_at timestamptz(3) not null,
        primary key (id)
      )
    `);
    this.addSql(`
      alter table account
        add constraint account_email_unique unique (email)
    `);
    this.addSql(`
      alter table account
        add constraint account_stripe_customer_id_unique unique (stripe_customer_id)
    `);
  }

  #apiKey(): void {
    this.addSql(`
      create table api_key (
        id uuid not null,
        account_id uuid not null,
        hash bytea not null,
        prefix text not null,
        scopes text[] not null,
        name text not null,
        created_at timestamptz(3) not null,
        expires_at timestamptz(3) null,
        revoked_at timestamptz(3) null,
        primary key (id)
      )
    `);
    this.addSql('create index api_key_account_id_index on api_key (account_id)');
    this.addSql(`
      alter table api_key
        add constraint api_key_hash_unique unique (hash)
    `);
    this.addSql(`
      alter table api_key
        add constraint api_key_hash_is_sha256 check (octet_length(hash) = 32)
    `);
    this.addSql(`
      alter table api_key
        add constraint api_key_account_id_foreign foreign key (account_id) references account (id)
    `);
  }

  #idempotencyKey(): void {
    this.addSql(`
      create table idempotency_key (
        account_id uuid not null,
        key text not null,
        route text not null,
        request_hash bytea not null,
        state text not null,
        status int null,
        response jsonb null,
        locked_until timestamptz(3) not null,
        created_at timestamptz(3) not null,
        primary key (account_id, key)
      )
    `);
    this.addSql('create index idempotency_key_created_at_index on idempotency_key (created_at)');
    this.addSql(`
      alter table idempotency_key
        add constraint idempotency_key_done_has_answer check (state <> 'done' or (status is not null and response is not null))
    `);
    this.addSql(`
      alter table idempotency_key
        add constraint idempotency_key_state_check check (state in ('running', 'done'))
    `);
    this.addSql(`
      alter table idempotency_key
        add constraint idempotency_key_account_id_foreign foreign key (account_id) references account (id)
    `);
  }

  #subscription(): void {
    this.addSql(`
      create table subscription (
        id uuid not null,
        account_id uuid not null,
        stripe_subscription_id text not null,
        tier text not null,
        pending_tier text null,
        status text not null,
        billing_period text not null,
        current_period_start timestamptz(3) not null,
        current_period_end timestamptz(3) not null,
        cancel_at_period_end boolean not null,
        version int not null,
        entitled boolean not null,
        updated_at timestamptz(3) not null,
        primary key (id)
      )
    `);
    this.addSql(`
      alter table subscription
        add constraint subscription_account_id_unique unique (account_id)
    `);
    this.addSql(`
      alter table subscription
        add constraint subscription_stripe_subscription_id_unique unique (stripe_subscription_id)
    `);
    this.addSql(`
      alter table subscription
        add constraint subscription_account_id_foreign foreign key (account_id) references account (id)
    `);
  }

  #price(): void {
    this.addSql(`
      create table price (
        stripe_price_id text not null,
        tier text not null,
        billing_period text not null,
        first_seen_at timestamptz(3) not null,
        primary key (stripe_price_id)
      )
    `);
  }

  #checkoutAttempt(): void {
    this.addSql(`
      create table checkout_attempt (
        id uuid not null,
        account_id uuid not null,
        kind text not null,
        state text not null,
        params jsonb not null,
        params_hash bytea not null,
        expires_at timestamptz(3) not null,
        stripe_session_id text null,
        created_at timestamptz(3) not null,
        updated_at timestamptz(3) not null,
        primary key (id)
      )
    `);
    this.addSql('create index checkout_attempt_account_id_index on checkout_attempt (account_id)');
    this.addSql(`
      alter table checkout_attempt
        add constraint checkout_attempt_stripe_session_id_unique unique (stripe_session_id)
    `);
    this.addSql(
      "create unique index checkout_attempt_one_open on checkout_attempt (account_id, kind) where state in ('creating', 'open', 'closing', 'awaiting_payment')",
    );
    this.addSql(`
      alter table checkout_attempt
        add constraint checkout_attempt_kind_check check (kind in ('subscription', 'trial_pack'))
    `);
    this.addSql(`
      alter table checkout_attempt
        add constraint checkout_attempt_state_check check (state in ('creating', 'open', 'closing', 'awaiting_payment', 'completed', 'expired'))
    `);
    this.addSql(`
      alter table checkout_attempt
        add constraint checkout_attempt_account_id_foreign foreign key (account_id) references account (id)
    `);
  }

  #trialPack(): void {
    this.addSql(`
      create table trial_pack (
        id uuid not null,
        account_id uuid not null,
        stripe_session_id text not null,
        payment_intent text not null,
        state text not null,
        redeemed_at timestamptz(3) not null,
        expires_at timestamptz(3) not null,
        granted_seconds int not null,
        remaining_seconds int not null,
        version int not null,
        primary key (id)
      )
    `);
    this.addSql(`
      alter table trial_pack
        add constraint trial_pack_account_id_unique unique (account_id)
    `);
    this.addSql(`
      alter table trial_pack
        add constraint trial_pack_stripe_session_id_unique unique (stripe_session_id)
    `);
    this.addSql(`
      alter table trial_pack
        add constraint trial_pack_payment_intent_unique unique (payment_intent)
    `);
    this.addSql(`
      alter table trial_pack
        add constraint trial_pack_balance check (remaining_seconds >= 0 and remaining_seconds <= granted_seconds)
    `);
    this.addSql(`
      alter table trial_pack
        add constraint trial_pack_state_check check (state in ('active', 'suspended', 'revoked', 'expired'))
    `);
    this.addSql(`
      alter table trial_pack
        add constraint trial_pack_account_id_foreign foreign key (account_id) references account (id)
    `);
  }

  #creditEntry(): void {
    this.addSql(`
      create table credit_entry (
        id uuid not null,
        account_id uuid not null,
        kind text not null,
        seconds int not null,
        report_key text not null,
        created_at timestamptz(3) not null,
        primary key (id)
      )
    `);
    this.addSql('create index credit_entry_account_id_index on credit_entry (account_id)');
    this.addSql(`
      alter table credit_entry
        add constraint credit_entry_report_key_unique unique (report_key)
    `);
    this.addSql(`
      alter table credit_entry
        add constraint credit_entry_kind_check check (kind in ('grant', 'use', 'expire', 'revoke', 'reinstate'))
    `);
    this.addSql(`
      create or replace function credit_entry_append_only_fn() returns trigger as $$
      begin
        raise exception '% is append-only', tg_table_name using errcode = 'restrict_violation';
      end;
      $$ language plpgsql
    `);
    this.addSql(`
      create trigger append_only before delete or update on credit_entry
        for each statement execute function credit_entry_append_only_fn()
    `);
    this.addSql(`
      create trigger append_only_truncate before truncate on credit_entry
        for each statement execute function credit_entry_append_only_fn()
    `);
    this.addSql(`
      alter table credit_entry
        add constraint credit_entry_account_id_foreign foreign key (account_id) references account (id)
    `);
  }

  #stripeEvent(): void {
    this.addSql(`
      create table stripe_event (
        id text not null,
        account_id uuid null,
        type text not null,
        object_id text null,
        customer_id text null,
        livemode boolean not null,
        api_version text null,
        created_at timestamptz(3) not null,
        raw bytea not null,
        state text not null,
        attempts int not null default 0,
        error text null,
        received_at timestamptz(3) not null,
        processed_at timestamptz(3) null,
        primary key (id)
      )
    `);
    this.addSql('create index stripe_event_account on stripe_event (account_id, received_at)');
    this.addSql(
      "create index stripe_event_pending_account on stripe_event (account_id) where state = 'received'",
    );
    this.addSql(
      "create index stripe_event_pending_customer on stripe_event (customer_id) where state = 'received'",
    );
    this.addSql("create index stripe_event_pending on stripe_event (received_at) where state = 'received'");
    this.addSql(`
      alter table stripe_event
        add constraint stripe_event_state_check check (state in ('received', 'done', 'ignored', 'dead'))
    `);
  }

  #auditEntry(): void {
    this.addSql(`
      create table audit_entry (
        id uuid not null,
        account_id uuid not null,
        position bigint not null,
        dedupe_key text not null,
        actor_type text not null,
        actor_account_id uuid null,
        actor_key_id uuid null,
        action text not null,
        target_resource_id text null,
        payload jsonb not null,
        occurred_at timestamptz(3) not null,
        prev_hash bytea null,
        hash bytea not null,
        primary key (id)
      )
    `);
    this.addSql(`
      alter table audit_entry
        add constraint audit_entry_dedupe_key_unique unique (dedupe_key)
    `);
    this.addSql('create index audit_entry_action on audit_entry (account_id, action, position)');
    this.addSql(`
      alter table audit_entry
        add constraint audit_entry_position unique (account_id, position)
    `);
    this.addSql(`
      create or replace function audit_entry_append_only_fn() returns trigger as $$
      begin
        raise exception '% is append-only', tg_table_name using errcode = 'restrict_violation';
      end;
      $$ language plpgsql
    `);
    this.addSql(`
      create trigger append_only before delete or update on audit_entry
        for each statement execute function audit_entry_append_only_fn()
    `);
    this.addSql(`
      create trigger append_only_truncate before truncate on audit_entry
        for each statement execute function audit_entry_append_only_fn()
    `);
    this.addSql(`
      alter table audit_entry
        add constraint audit_entry_account_id_foreign foreign key (account_id) references account (id)
    `);
  }

  #email(): void {
    this.addSql(`
      create table email (
        id uuid not null,
        account_id uuid not null,
        natural_key text not null,
        template text not null,
        to_address text not null,
        data jsonb not null,
        state text not null,
        attempts int not null default 0,
        provider_id text null,
        created_at timestamptz(3) not null,
        first_attempt_at timestamptz(3) null,
        sent_at timestamptz(3) null,
        error text null,
        primary key (id)
      )
    `);
    this.addSql('create index email_account_id_index on email (account_id)');
    this.addSql(`
      alter table email
        add constraint email_natural_key_unique unique (natural_key)
    `);
    this.addSql("create index email_unsent on email (created_at) where state in ('pending', 'parked')");
    this.addSql(`
      alter table email
        add constraint email_state_check check (state in ('pending', 'sent', 'parked', 'not_configured'))
    `);
    this.addSql(`
      alter table email
        add constraint email_account_id_foreign foreign key (account_id) references account (id)
    `);
  }
}
