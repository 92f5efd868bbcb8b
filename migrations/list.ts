import type { MigrationObject } from '@mikro-orm/core';
import { Initial } from './0001-initial.ts';
import { Credit } from './0002-credit.ts';
import { CustomerWebhooks } from './0003-customer-webhooks.ts';
import { CatchUp } from './0004-catch-up.ts';
import { FiltersAndFigures } from './0005-filters-and-figures.ts';
import { FormerCustomers } from './0006-former-customers.ts';
import { FairWebhooks } from './0007-fair-webhooks.ts';
import { Moments } from './0008-moments.ts';
import { TrialPackPrices } from './0009-trial-pack-prices.ts';
import { StripeEmail } from './0010-stripe-email.ts';
import { DueRows } from './0011-due-rows.ts';
import { MailsInBatches } from './0012-mails-in-batches.ts';

/** Every migration, in the order in which they run. Their names are what the database remembers. */
export const MIGRATIONS: MigrationObject[] = [
  { name: '0001-initial', class: Initial },
  { name: '0002-credit', class: Credit },
  { name: '0003-customer-webhooks', class: CustomerWebhooks },
  { name: '0004-catch-up', class: CatchUp },
  { name: '0005-filters-and-figures', class: FiltersAndFigures },
  { name: '0006-former-customers', class: FormerCustomers },
  { name: '0007-fair-webhooks', class: FairWebhooks },
  { name: '0008-moments', class: Moments },
  { name: '0009-trial-pack-prices', class: TrialPackPrices },
  { name: '0010-stripe-email', class: StripeEmail },
  { name: '0011-due-rows', class: DueRows },
  { name: '0012-mails-in-batches', class: MailsInBatches },
];
