import type { GenerationObserver, GenerationStep } from './observer.js';
import type { GenerationTask } from './task.js';

/** What a run came to, and nobody has been told of yet: the next run does not wait for that. */
export class Untold {
  #news: (() => void)[] = [];
  /** Whose tokens have been drawn and not handed on. */
  #undelivered: GenerationTask[] = [];

  /** @param report told of what a request threw that was told of a step */
  constructor(
    private readonly observer: Required<GenerationObserver>,
    private readonly report: (error: unknown) => void,
  ) {}

  /** A token has been drawn, so many milliseconds after the last, or after the request where it is the first. */
  token(task: GenerationTask, { first, ms }: { readonly first: boolean; readonly ms: number }): void {
    this.#news.push(() => (first ? this.observer.firstToken(ms) : this.observer.nextToken(ms)));
    this.#undelivered.push(task);
  }

  step(step: GenerationStep, tasks: readonly GenerationTask[]): void {
    this.#news.push(() => {
      this.observer.stepped(step);
      for (const task of tasks) {
        try {
          task.stepped(step);
        } catch (thrown) {
          this.report(thrown);
        }
      }
    });
  }

  /** Observers first: who reads a text to its end may ask at once what it has cost. */
  tell(): void {
    for (const tell of this.#news.splice(0)) tell();
    for (const task of this.#undelivered.splice(0)) task.deliver();
  }
}
