import type { GenerationTask } from './task.js';

/** Requests without a row, by priority, then by arrival. */
export class WaitingTasks {
  readonly #tasks: GenerationTask[] = [];

  get length(): number {
    return this.#tasks.length;
  }

  get all(): readonly GenerationTask[] {
    return this.#tasks;
  }

  enter(task: GenerationTask): void {
    let at = this.#tasks.length;
    while (at > 0 && task.priority < this.#tasks[at - 1]!.priority) at--;
    this.#tasks.splice(at, 0, task);
  }

  /** One that has had its turn, and has to have it again. */
  enterFirst(task: GenerationTask): void {
    this.#tasks.unshift(task);
  }

  take(): GenerationTask | undefined {
    return this.#tasks.shift();
  }

  /** Whether it was there. */
  remove(task: GenerationTask): boolean {
    const at = this.#tasks.indexOf(task);
    if (at >= 0) this.#tasks.splice(at, 1);
    return at >= 0;
  }
}
