import { z } from 'zod';

/** A moment as every answer shows it: UTC, to the second, such as `2026-05-01T00:00:00Z`. */
export const wireTimeSchema = z
  .string()
  .regex(/^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z$/)
  .meta({
    format: 'date-time',
    description: 'A moment in UTC, to the second.',
    examples: ['2026-05-01T00:00:00Z'],
  });

/** Writes a moment for the wire; the fraction of a second is cut off, never rounded up into the future. */
export function toWireTime(date: Date): string {
  return `${date.toISOString().slice(0, 'YYYY-MM-DDTHH:MM:SS'.length)}Z`;
}

/** Where the time comes from, so that tests can set it. */
export type Clock = {
  now(): Date;
  /**
   * How far it is ahead of real time, in milliseconds. Only beside a local Stripe whose clock was moved; what goes by
   * the database's clock adds it there. Left out, it is 0.
   */
  aheadMs?(): number;
};

/** How far a clock is ahead of real time, in milliseconds. */
export function aheadOf(clock: Clock): number {
  return clock.aheadMs?.() ?? 0;
}

/**
 * Real time, for what others judge by clocks of their own and what a queue waits for: signatures, pauses between two
 * tries of a job. It is `now` everywhere but beside a local Stripe whose clock was moved.
 */
export function realTime(clock: Clock): Date {
  return new Date(clock.now().getTime() - aheadOf(clock));
}

/** Whether a text is a moment in UTC as we write it, to the second or finer, of a day that the calendar has. */
export function isMoment(text: string): boolean {
  if (!/^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d{1,3})?Z$/.test(text)) return false;
  const time = new Date(text);
  // JavaScript reads the 30th of February as a day of March.
  return !Number.isNaN(time.getTime()) && time.toISOString().slice(0, 19) === text.slice(0, 19);
}
