import type { TrialPackFacts } from '../../server/credit/project.ts';
import type { CreditOutcome } from '../../server/database/entities/credit.ts';
import { reached } from './states.ts';

const GRANTED_SECONDS = 59_800;

export type Told = Pick<TrialPackFacts, 'amountRefundedCents' | 'disputeStatuses'>;
type Reservation = { held: number; endsAt: number; state: 'held' | 'settled' | 'released' | 'lapsed' };
type Used = { seconds: number; answer: string };

/** What the ledger has to do, as plainly as it can be said: one account, one step at a time, its own clock. Counts the rare states that it comes into. */
export class CreditModel {
  now = 0;
  spent = 0;
  balance = GRANTED_SECONDS;
  #state: 'active' | 'suspended' | 'revoked' | 'expired' = 'active';
  readonly #endsAt: number;
  readonly #reservations = new Map<number, Reservation>();
  readonly #settled = new Map<number, Used>();

  constructor(endsAt: number) {
    this.#endsAt = endsAt;
  }

  pass(seconds: number): void {
    this.now += seconds;
  }

  tell({ amountRefundedCents: refunded, disputeStatuses }: Told): void {
    const isTaken = refunded >= 299 || disputeStatuses.includes('lost');
    const isOver = this.now >= this.#endsAt;
    const [before, spendable] = [this.balance, this.#block() === null];
    this.#state = isTaken
      ? 'revoked'
      : isOver
        ? 'expired'
        : disputeStatuses.includes('needs_response')
          ? 'suspended'
          : 'active';
    const allowed = Math.ceil((GRANTED_SECONDS * (299 - refunded)) / 299);
    this.balance = isTaken || isOver ? 0 : Math.max(0, allowed - this.spent);
    this.#lapse();
    const held = this.#held();
    reached('a refund takes of what is reserved', !isOver && this.balance < Math.min(held, before));
    reached('a pack is put on hold with a reservation', held > 0 && spendable && this.#state === 'suspended');
    reached('a refund is heard of when its credit is spent', !isTaken && !isOver && allowed < this.spent);
    reached('credit comes back after some of it was spent', this.balance > before && this.spent > 0);
  }

  expire(): void {
    if (this.#state === 'revoked' || this.now < this.#endsAt) return;
    reached('a pack ends that somebody had reserved of', this.#reservations.size > 0 && this.balance > 0);
    this.#state = 'expired';
    this.balance = 0;
  }

  report(seconds: number): string {
    const answer = this.#take(seconds, 0);
    const [accepted, left, outcome] = answer.split(' ');
    reached('a report takes the last of the credit', accepted !== '0' && outcome === 'used_up');
    reached('a report is covered in part', accepted !== '0' && Number(accepted) < seconds);
    reached(
      'a report finds all that is left reserved',
      outcome === 'held' && accepted === '0' && left !== '0',
    );
    reached('a report finds the pack on hold', outcome === 'suspended');
    reached('a report finds the pack taken back', outcome === 'revoked');
    reached(
      'a report finds the pack at its end, which nobody has looked after',
      outcome === 'expired' && this.#state === 'active',
    );
    return answer;
  }

  reserve(id: number, seconds: number, holdSeconds: number): string {
    this.#lapse();
    const held = Math.min(seconds, this.#free(0));
    const endsAt = Math.min(this.now + holdSeconds, this.#endsAt);
    this.#reservations.set(id, { held, endsAt, state: held > 0 ? 'held' : 'released' });
    return held > 0 ? `${held} active` : `0 ${this.#outcome()}`;
  }

  settle(id: number, seconds: number): string {
    this.#lapse();
    const reservation = this.#reservations.get(id);
    if (!reservation) return 'not_found';
    const settled = this.#settled.get(id);
    reached('a reservation is settled a second time', settled?.seconds === seconds);
    reached(
      'a reservation is settled a second time with other seconds',
      settled !== undefined && settled.seconds !== seconds,
    );
    reached('a reservation is settled that was released', reservation.state === 'released');
    reached('a reservation is settled that has lapsed', reservation.state === 'lapsed');
    if (settled) return settled.seconds === seconds ? settled.answer : 'report_id_reused';
    if (reservation.state === 'released') return 'reservation_closed';
    const own = reservation.state === 'held' ? reservation.held : 0;
    reservation.state = 'settled';
    reached('a reservation takes less than it held', own > seconds);
    reached('a reservation takes more than it held', own > 0 && seconds > own);
    const answer = this.#take(seconds, own);
    this.#settled.set(id, { seconds, answer });
    return answer;
  }

  release(id: number): string {
    this.#lapse();
    const reservation = this.#reservations.get(id);
    if (!reservation) return 'not_found';
    if (reservation.state === 'settled') return 'reservation_closed';
    reached('a reservation is released that has lapsed', reservation.state === 'lapsed');
    if (reservation.state === 'lapsed') return '0';
    reached(
      'a reservation is released a second time',
      reservation.state === 'released' && reservation.held > 0,
    );
    reservation.state = 'released';
    return String(reservation.held);
  }

  /** What of the balance can be spent at all, and what is held of it. */
  get standing(): string {
    this.#lapse();
    const outcome = this.#outcome();
    const remaining = outcome === 'active' || outcome === 'held' ? this.balance : 0;
    return `${outcome} ${remaining} ${Math.min(remaining, this.#held())}`;
  }

  /** `own`: what the taker's reservation held a moment ago. */
  #take(seconds: number, own: number): string {
    this.#lapse();
    const accepted = Math.min(seconds, this.#free(own));
    this.balance -= accepted;
    this.spent += accepted;
    const outcome = this.#outcome();
    return `${accepted} ${outcome === 'active' || outcome === 'held' ? this.balance : 0} ${outcome}`;
  }

  #free(own: number): number {
    if (this.#block() !== null) return 0;
    return Math.min(this.balance, own + Math.max(0, this.balance - this.#held() - own));
  }

  #outcome(): CreditOutcome {
    return (
      this.#block() ?? (this.balance === 0 ? 'used_up' : this.#held() < this.balance ? 'active' : 'held')
    );
  }

  #block(): 'revoked' | 'expired' | 'suspended' | null {
    if (this.#state === 'revoked') return 'revoked';
    if (this.#state === 'expired' || this.now >= this.#endsAt) return 'expired';
    return this.#state === 'suspended' ? 'suspended' : null;
  }

  #held(): number {
    return [...this.#reservations.values()]
      .filter(({ state }) => state === 'held')
      .reduce((sum, { held }) => sum + held, 0);
  }

  #lapse(): void {
    for (const reservation of this.#reservations.values()) {
      if (reservation.state === 'held' && reservation.endsAt <= this.now) reservation.state = 'lapsed';
    }
  }
}
