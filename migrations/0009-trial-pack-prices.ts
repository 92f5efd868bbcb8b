import { Migration } from '@mikro-orm/migrations';

/** The prices under which the trial pack is or was sold, among them all that we have offered so far. */
export class TrialPackPrices extends Migration {
  override up(): void {
    this.addSql(`
      create table trial_pack_price (
        stripe_price_id text not null,
        first_seen_at timestamptz(3) not null,
        primary key (stripe_price_id)
      )
    `);
    this.addSql(`
      insert into trial_pack_price (stripe_price_id, first_seen_at)
      select params #>> '{line_items,0,price}', min(created_at)
        from checkout_attempt
       where kind = 'trial_pack' and params #>> '{line_items,0,price}' is not null
       group by 1
    `);
  }
}
