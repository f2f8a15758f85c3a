import { HeartwoodError } from '../../../../libs/errors/error.js';

/** Calls that are kept for later at a time; what is kept of a call is copied, so this bounds its memory too. */
const mostKept = 8;
/** Milliseconds after which it is looked again whether the server is idle: work may end that no call's end tells of. */
const lookMs = 50;

/**
 * Work that is for nobody, and waits for the server to be idle: in order, one at a time. What takes several runs asks for its turn before each,
 * so that a call that has come meanwhile waits for one of them at most.
 */
export class ShadowQueue {
  readonly #waiting: (() => Promise<void>)[] = [];
  readonly #turns: { resolve(): void; reject(error: HeartwoodError): void }[] = [];
  /** Calls that have a place: those that are not answered yet, that wait, and the one that runs. */
  #kept = 0;
  #running = false;
  #stopped = false;
  #timer: NodeJS.Timeout | undefined;

  /** @param idle whether no call is under way */
  constructor(private readonly idle: () => boolean) {}

  /** Takes a place for a call, if there is one. */
  enter(): boolean {
    if (this.#stopped || this.#kept >= mostKept) return false;
    this.#kept++;
    return true;
  }

  /** Gives up the place of a call that comes to no work. */
  leave(): void {
    this.#kept--;
  }

  /** Work for a call that has a place: it is given up when the work has settled. */
  add(work: () => Promise<void>): void {
    if (this.#stopped) return this.leave();
    this.#waiting.push(work);
    this.look();
  }

  /** Settles when the server is idle. Throws CANCELLED once it stops. */
  turn(): Promise<void> {
    if (this.#stopped) return Promise.reject(stopping());
    if (this.idle()) return Promise.resolve();
    this.#lookLater();
    return new Promise((resolve, reject) => this.#turns.push({ resolve, reject }));
  }

  /** A call has ended, or something else has changed: perhaps nothing is under way any more. */
  look(): void {
    const next = this.#turns.length > 0 || (this.#waiting.length > 0 && !this.#running);
    if (this.#stopped || !next) return;
    if (!this.idle()) return this.#lookLater();
    for (const { resolve } of this.#turns.splice(0)) resolve();
    if (!this.#running) this.#begin();
  }

  /** Lets go of what waits; a run under way ends by itself. */
  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
    this.#kept -= this.#waiting.splice(0).length;
    for (const { reject } of this.#turns.splice(0)) reject(stopping());
  }

  #begin(): void {
    const work = this.#waiting.shift();
    if (!work) return;
    this.#running = true;
    void work().finally(() => {
      this.#running = false;
      this.leave();
      setImmediate(() => this.look());
    });
  }

  #lookLater(): void {
    if (this.#timer) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.look();
    }, lookMs).unref();
  }
}

function stopping(): HeartwoodError {
  return new HeartwoodError('CANCELLED', 'the server is stopping');
}
