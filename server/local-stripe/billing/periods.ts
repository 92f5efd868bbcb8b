/** How often a price recurs. */
export interface Recurrence {
  readonly interval: 'day' | 'week' | 'month' | 'year';
  readonly count: number;
}

/** A stretch of time in unix seconds; the end is not part of it. */
export interface Period {
  readonly start: number;
  readonly end: number;
}

const DAY = 86_400;

/**
 * The anchor moved by so many recurrences, in UTC. Months and years keep the anchor's day of the month and
 * fall back to the month's last day where it has fewer: the 31st gives 28 February and then 31 March again.
 */
export function boundary(anchor: number, recurrence: Recurrence, times: number): number {
  const steps = recurrence.count * times;
  switch (recurrence.interval) {
    case 'day':
      return anchor + steps * DAY;
    case 'week':
      return anchor + steps * 7 * DAY;
    case 'month':
      return addMonths(anchor, steps);
    case 'year':
      return addMonths(anchor, steps * 12);
  }
}

/** The period which holds `at`, counted from the anchor in both directions. */
export function periodAt(anchor: number, recurrence: Recurrence, at: number): Period {
  let times = Math.floor((at - anchor) / roughSeconds(recurrence));
  while (boundary(anchor, recurrence, times) > at) times--;
  while (boundary(anchor, recurrence, times + 1) <= at) times++;
  return { start: boundary(anchor, recurrence, times), end: boundary(anchor, recurrence, times + 1) };
}

function addMonths(anchor: number, months: number): number {
  const from = new Date(anchor * 1000);
  const total = from.getUTCFullYear() * 12 + from.getUTCMonth() + months;
  const year = Math.floor(total / 12);
  const month = total - year * 12;
  const lastDay = new Date(Date.UTC(year, month + 1, 0)).getUTCDate();
  const midnight = Date.UTC(year, month, Math.min(from.getUTCDate(), lastDay)) / 1000;
  return midnight + (anchor - Math.floor(anchor / DAY) * DAY);
}

function roughSeconds({ interval, count }: Recurrence): number {
  const days = { day: 1, week: 7, month: 30.4375, year: 365.25 }[interval];
  return count * days * DAY;
}
