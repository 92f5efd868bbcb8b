import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from 'pg';
import { seedAccounts, withClient } from '../database.ts';
import { deliver, keepFromLooking, openCustomers, untilSettled, WEBHOOK_SECRET } from '../events.ts';
import { startLocalStripe } from '../local-stripe.ts';
import type { Bench, Report } from '../section.ts';
import { sized } from '../settings.ts';
import { figure } from '../table.ts';

const MAILS = sized(2_000, 300);
const RENEWAL_DAY = 10_000;
const DEADLINE_MS = 300_000;

type Sent = { mails: number; requests: number; seconds: number; mostAttempts: number; cpuMsPerMail: number };

/** Mails of a day on which all renew, through a mailbox that takes two requests a second as Resend does. */
export async function mails(bench: Bench): Promise<Report> {
  const customers = await openCustomers(bench);
  const echo = await customers.startEcho(0);
  const mailbox = await startLocalStripe(bench);
  const databaseUrl = await bench.createDatabase();
  await seedAccounts(databaseUrl, 100, [customers.of(1).customer]);
  const sent = await withClient(databaseUrl, async (client) => {
    await keepFromLooking(client);
    const child = await bench.startChild('product', {
      databaseUrl,
      roles: ['webhooks', 'worker'],
      poolMax: 20,
      stripeUrl: echo.url,
      webhookSecret: WEBHOOK_SECRET,
      mailUrl: mailbox.child.url,
    });
    // One real mail to begin with, whose row the others are copies of.
    const startedAt = performance.now();
    await deliver({ url: child.url, path: '/webhooks/stripe' }, [customers.eventAbout(1)], 1);
    await untilSettled(client, 1, { startedAt });
    await untilSent(client);
    bench.say(`sending ${MAILS.toLocaleString('en')} mails`);
    const cpuBefore = await child.cpuMs();
    await copyMails(client, MAILS);
    await untilSent(client);
    const cpuMs = (await child.cpuMs()) - cpuBefore;
    await child.close();
    return { ...(await readSent(client)), cpuMsPerMail: cpuMs / MAILS };
  });
  await mailbox.child.close();
  await echo.close();
  await customers.close();
  return report(sent);
}

async function copyMails(client: Client, count: number): Promise<void> {
  const { rowCount } = await client.query(
    `insert into email (id, account_id, natural_key, template, to_address, data, state, attempts, created_at, alone)
     select gen_random_uuid(), account_id, 'bench-' || n, template, 'account-' || n || '@example.test', data, 'pending',
       0, now(), false
     from (select * from email limit 1) one, generate_series(1, $1::int) n`,
    [count],
  );
  if (rowCount !== count) throw new Error('there is no mail to copy');
}

async function untilSent(client: Client): Promise<void> {
  const startedAt = performance.now();
  for (;;) {
    const { rows } = await client.query<{ pending: number; lost: number }>(
      `select count(*) filter (where state = 'pending')::int as pending,
         count(*) filter (where state not in ('pending', 'sent'))::int as lost from email`,
    );
    const [{ pending, lost } = { pending: 0, lost: 0 }] = rows;
    if (lost > 0) throw new Error(`${lost} mails were not sent`);
    if (pending === 0) return;
    if (performance.now() - startedAt > DEADLINE_MS) throw new Error(`${pending} mails were never sent`);
    await sleep(50);
  }
}

async function readSent(client: Client): Promise<Omit<Sent, 'cpuMsPerMail'>> {
  // A request is known by what its mails share; the seconds are those from the end of the first to that of the last.
  const { rows } = await client.query<Omit<Sent, 'cpuMsPerMail'>>(
    `select count(*)::int as mails, count(distinct coalesce(batch_id, id))::int as requests,
       extract(epoch from max(sent_at) - min(sent_at))::float8 as seconds, max(attempts)::int as "mostAttempts"
     from email where natural_key like 'bench-%'`,
  );
  const [sent] = rows;
  if (!sent) throw new Error('nothing was sent');
  return sent;
}

function report(sent: Sent): Report {
  const requestsPerSecond = (sent.requests - 1) / sent.seconds;
  const requestsOfDay = Math.ceil((RENEWAL_DAY * sent.requests) / sent.mails);
  const secondsOfDay = requestsOfDay / requestsPerSecond;
  return {
    tables: [
      {
        title: `${sent.mails.toLocaleString('en')} mails through a mailbox that takes two requests a second`,
        columns: ['', ''],
        rows: [
          ['requests', figure(sent.requests)],
          ['requests a second', figure(requestsPerSecond)],
          ['most attempts of a mail', figure(sent.mostAttempts)],
          ['processor ms a mail', figure(sent.cpuMsPerMail)],
          [`seconds for ${RENEWAL_DAY.toLocaleString('en')} at this pace (reckoned)`, figure(secondsOfDay)],
        ],
      },
    ],
    notes: [
      'The mailbox is the local one, which refuses a third request within a second. The pace is measured, the time of the whole day reckoned from it.',
    ],
    goals: [
      {
        number: 3,
        what: `${RENEWAL_DAY.toLocaleString('en')} mails, reckoned from ${sent.mails.toLocaleString('en')} sent`,
        goal: 'under 120 s',
        measured: `${figure(secondsOfDay)} s`,
        isReached: secondsOfDay < 120 && sent.mostAttempts === 1,
      },
    ],
    figures: { sent, requestsPerSecond, requestsOfDay, secondsOfDay },
    charts: {},
  };
}
