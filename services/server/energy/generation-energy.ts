import type { EnergyLedger, Ticket } from '../../../libs/energy/ledger.js';
import type { GenerationObserver, GenerationStep } from '../generation/observer.js';
import type { RequestMeter } from '../inference/generation.js';

/** A text of which more than this share of its steps' time was not metered has no joules: they would be a guess. */
const unmeteredShare = 0.01;

/**
 * Whose the joules of a language model's steps are. A step is a run that its requests share by rows; a request's joules are the sum of
 * its shares, so that over all requests and what nobody is charged for they add up to what the meter counted.
 */
export class GenerationEnergy implements GenerationObserver {
  readonly #rows = new WeakMap<GenerationStep, Promise<number | undefined>>();
  #ticket: Ticket | undefined;

  /**
   * @param spent told of a step's joules once they are known
   * @param charged told of a request's joules once it has ended and they are known
   */
  constructor(
    private readonly ledger: EnergyLedger,
    private readonly spent: (step: GenerationStep, joules: number) => void,
    private readonly charged: (joules: number) => void,
  ) {}

  stepBegins(at: number): void {
    // What was lost with its worker is nobody's.
    this.#ticket?.drop();
    this.#ticket = this.ledger.begin(at);
  }

  stepped(step: GenerationStep): void {
    // A run of which nobody waits for anything is nobody's.
    if (step.rows === 0) this.#ticket?.drop(step.execution.endedAt);
    const joules = this.#ticket?.settle(step.execution, step.rows);
    this.#ticket = undefined;
    if (joules === undefined) return;
    void joules.then((known) => known !== undefined && this.spent(step, known));
    this.#rows.set(
      step,
      joules.then((known) => (known === undefined ? undefined : known / step.rows)),
    );
  }

  stepFailed(): void {
    this.#ticket?.drop();
    this.#ticket = undefined;
  }

  /** Follows one request. */
  openRequest(): RequestMeter {
    let sum = 0;
    let [knownMs, unknownMs] = [0, 0];
    /** The last share that is not known yet; shares become known in the order of their steps. */
    let last: Promise<void> = Promise.resolve();
    return {
      stepped: (step) => {
        const share = this.#rows.get(step);
        last = Promise.all([last, share]).then(([, joules]) => {
          const ms = step.execution.endedAt - step.execution.startedAt;
          if (joules === undefined) unknownMs += ms;
          else [sum, knownMs] = [sum + joules, knownMs + ms];
        });
      },
      joules: () => last.then(() => (unknownMs > unmeteredShare * (knownMs + unknownMs) ? undefined : sum)),
      close: () => void last.then(() => sum > 0 && this.charged(sum)),
    };
  }
}
