import { Migration } from '@mikro-orm/migrations';

/**
 * Mails that are there already, and those that a version before this one adds, go out by themselves under their own
 * ids, as that version sends them: whichever of the two sends one, the provider takes it once.
 */
export class MailsInBatches extends Migration {
  override up(): void {
    this.addSql('alter table email add column alone boolean not null default true');
  }
}
