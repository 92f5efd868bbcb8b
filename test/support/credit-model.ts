import type { TrialPackFacts } from '../../server/credit/project.ts';
import type { CreditOutcome } from '../../server/database/entities/credit.ts';

const GRANTED_SECONDS = 59_800;

export type Told = Pick<TrialPackFacts, 'amountRefundedCents' | 'disputeStatuses'>;
type Reservation = { held: number; endsAt: number; state: 'held' | 'settled' | 'released' | 'lapsed' };
type Used = { seconds: number; answer: string };

/** What the ledger has to do, as plainly as it can be said: one account, one step at a time, its own clock. */
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
    this.#state = isTaken
      ? 'revoked'
      : isOver
        ? 'expired'
        : disputeStatuses.includes('needs_response')
          ? 'suspended'
          : 'active';
    const allowed = Math.ceil((GRANTED_SECONDS * (299 - refunded)) / 299);
    this.balance = isTaken || isOver ? 0 : Math.max(0, allowed - this.spent);
  }

  expire(): void {
    if (this.#state === 'revoked' || this.now < this.#endsAt) return;
    this.#state = 'expired';
    this.balance = 0;
  }

  report(seconds: number): string {
    return this.#take(seconds, 0);
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
    if (settled) return settled.seconds === seconds ? settled.answer : 'report_id_reused';
    if (reservation.state === 'released') return 'reservation_closed';
    const own = reservation.state === 'held' ? reservation.held : 0;
    reservation.state = 'settled';
    const answer = this.#take(seconds, own);
    this.#settled.set(id, { seconds, answer });
    return answer;
  }

  release(id: number): string {
    this.#lapse();
    const reservation = this.#reservations.get(id);
    if (!reservation) return 'not_found';
    if (reservation.state === 'settled') return 'reservation_closed';
    if (reservation.state === 'lapsed') return '0';
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
