import type { GenerationObserver } from './observer.js';

/** Observers behind a gate: what comes before it is open (a version's warm-up) is nobody's request, and they are told nothing of it. */
export class GatedObservers {
  #open = false;
  readonly observers: readonly GenerationObserver[];

  constructor(behind: readonly GenerationObserver[]) {
    this.observers = behind.map((observer) => ({
      stepBegins: (at) => this.#open && observer.stepBegins?.(at),
      stepped: (step) => this.#open && observer.stepped?.(step),
      stepFailed: () => this.#open && observer.stepFailed?.(),
      firstToken: (ms) => this.#open && observer.firstToken?.(ms),
      nextToken: (ms) => this.#open && observer.nextToken?.(ms),
      ended: (record) => this.#open && observer.ended?.(record),
    }));
  }

  open(): void {
    this.#open = true;
  }
}
