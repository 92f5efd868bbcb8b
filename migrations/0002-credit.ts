import { Migration } from '@mikro-orm/migrations';

/** Credit that can be spent: reports of use in the ledger, positions and running balances, reservations. */
export class Credit extends Migration {
  override up(): void {
    this.#trialPack();
    this.#creditEntry();
    this.#creditReservation();
  }

  #trialPack(): void {
    this.addSql(`
      alter table trial_pack
        add held_seconds int not null default 0,
        add entry_count int not null default 0,
        add nearly_used_at timestamptz(3) null
    `);
    this.addSql(`
      alter table trial_pack
        add constraint trial_pack_held check (held_seconds >= 0)
    `);
    this.addSql(`
      update trial_pack
         set entry_count = (select count(*) from credit_entry where credit_entry.account_id = trial_pack.account_id)
    `);
  }

  #creditEntry(): void {
    this.addSql(`
      alter table credit_entry
        add position int null,
        add balance_seconds int null,
        add session_id text null,
        add requested_seconds int null,
        add used_at timestamptz(3) null,
        add outcome text null
    `);
    // The entries that exist are numbered once, in the order in which they were written: a pack's version is the
    // last part of its report key, and tells entries of one moment apart.
    this.addSql('alter table credit_entry disable trigger append_only');
    this.addSql(`
      update credit_entry
         set position = numbered.position, balance_seconds = numbered.balance_seconds
        from (select id,
                     row_number() over entered as position,
                     sum(seconds) over entered as balance_seconds
                from credit_entry
              window entered as (
                partition by account_id
                order by created_at, substring(report_key from ':([0-9]{1,9})$')::int
                rows unbounded preceding
              )) numbered
       where numbered.id = credit_entry.id
    `);
    this.addSql('alter table credit_entry enable trigger append_only');
    this.addSql(`
      alter table credit_entry
        alter position set not null,
        alter balance_seconds set not null
    `);
    this.addSql(`
      alter table credit_entry
        add constraint credit_entry_position unique (account_id, position)
    `);
    this.addSql('drop index credit_entry_account_id_index');
    this.addSql(`
      alter table credit_entry
        add constraint credit_entry_balance check (balance_seconds >= 0)
    `);
    this.addSql(`
      alter table credit_entry
        add constraint credit_entry_use check (kind <> 'use' or (session_id is not null and used_at is not null and outcome is not null and requested_seconds is not null and seconds <= 0 and seconds + requested_seconds >= 0))
    `);
    this.addSql(`
      alter table credit_entry
        add constraint credit_entry_outcome_check check (outcome in ('active', 'held', 'used_up', 'suspended', 'expired', 'revoked'))
    `);
    this.addSql('alter table credit_entry drop constraint credit_entry_account_id_foreign');
    this.addSql(`
      alter table credit_entry
        add constraint credit_entry_account_id_foreign foreign key (account_id) references trial_pack (account_id)
    `);
  }

  #creditReservation(): void {
    this.addSql(`
      create table credit_reservation (
        id uuid not null,
        account_id uuid not null,
        reservation_key text not null,
        session_id text not null,
        requested_seconds int not null,
        for_seconds int not null,
        held_seconds int not null,
        outcome text not null,
        state text not null,
        created_at timestamptz(3) not null,
        expires_at timestamptz(3) not null,
        primary key (id)
      )
    `);
    this.addSql(`
      alter table credit_reservation
        add constraint credit_reservation_reservation_key_unique unique (reservation_key)
    `);
    this.addSql(
      "create index credit_reservation_held on credit_reservation (account_id) where state = 'held'",
    );
    this.addSql(`
      alter table credit_reservation
        add constraint credit_reservation_held_seconds check (held_seconds >= 0 and held_seconds <= requested_seconds)
    `);
    this.addSql(`
      alter table credit_reservation
        add constraint credit_reservation_outcome_check check (outcome in ('active', 'held', 'used_up', 'suspended', 'expired', 'revoked'))
    `);
    this.addSql(`
      alter table credit_reservation
        add constraint credit_reservation_state_check check (state in ('held', 'settled', 'released', 'lapsed'))
    `);
    this.addSql(`
      alter table credit_reservation
        add constraint credit_reservation_account_id_foreign foreign key (account_id) references trial_pack (account_id)
    `);
  }
}
