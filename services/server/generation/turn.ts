import { HeartwoodError } from '../../../libs/errors/error.js';
import type { ResidentMemory } from '../../../libs/runtime/resident.js';
import type { LateRun, Session } from '../../../libs/runtime/runtime.js';
import type { Step } from './batch-steps.js';
import type { GenerationStep } from './observer.js';
import type { RelayedTokens } from './sampling/relayed-tokens.js';
import type { GenerationTask } from './task.js';

/** What the runtime is given for a step. */
export interface MadeStep {
  readonly step: Step;
  readonly run: LateRun;
}

export interface TurnTerms {
  readonly memory: ResidentMemory;
  readonly priority: () => number;
  /** Whether the worker may be given it before the turn ahead of it is answered. */
  readonly ahead: boolean;
}

/** What a turn came to. */
export interface TurnAnswer {
  readonly told: RelayedTokens;
  /** Of the worker, for the run alone. */
  readonly durationMs: number;
}

/** Thrown to the runtime when a worker's turn comes and nobody waits for it any more. */
const nothingToRun = new Error('nothing to run');

/** One turn of the worker, from being asked for: its step is made when it is given. */
export class Turn {
  /** Undefined until it is given, and for good where there was nothing to run; where it was taken back that is never run. */
  step: Step | undefined;
  /** On the clock of performance.now(). */
  givenAt = Infinity;
  /** For whom it is: whoever has ended before it began has only left a row in it. Known once it is the first. */
  tasks: readonly GenerationTask[] = [];
  /** When the worker has it, or never will. */
  readonly given: Promise<void>;
  readonly #answer: Promise<TurnAnswer | undefined>;
  readonly #withdrawal = new AbortController();

  /** @param make undefined: there is nothing to run any more */
  constructor(session: Session, make: () => MadeStep | undefined, terms: TurnTerms) {
    let given = (): void => undefined;
    this.given = new Promise((resolve) => (given = resolve));
    const late = (): LateRun => {
      const made = make();
      if (made === undefined) throw nothingToRun;
      this.step = made.step;
      this.givenAt = performance.now();
      given();
      return made.run;
    };
    this.#answer = session.runLate(late, { ...terms, signal: this.#withdrawal.signal }).then(
      ({ told, durationMs }) => ({ told: told as RelayedTokens, durationMs }),
      (thrown: unknown) => {
        if (thrown === nothingToRun || (this.withdrawn && isCancelled(thrown))) return undefined;
        throw thrown;
      },
    );
    this.#answer.finally(given).catch(() => undefined);
  }

  /** Nobody wants it as it is any more: it is not run, unless it has begun. */
  withdraw(): void {
    this.#withdrawal.abort();
  }

  get withdrawn(): boolean {
    return this.#withdrawal.signal.aborted;
  }

  /** It is the first of those that are not answered. */
  begins(): void {
    this.tasks = this.step?.tasks.filter(({ over }) => !over) ?? [];
  }

  /** Undefined where nothing was run. Throws as `Session.runLate`. */
  answer(): Promise<TurnAnswer | undefined> {
    return this.#answer;
  }

  /** What it took, told of its step. @param stages of tokens, that the model has */
  taken({ told }: TurnAnswer, stages: number, time: { startedAt: number; endedAt: number }): GenerationStep {
    const { kind, shape, tasks } = this.step!;
    const rows = tasks.length;
    const kept = Array.from({ length: stages }, (_, stage) =>
      told.lengths.reduce((sum, after, row) => sum + after[stage + 1]! - shape.lengths[row]![stage + 1]!, 0),
    );
    return {
      ...{ kind, kept, rows: this.tasks.length },
      tokens: shape.tokens * rows,
      wasted: shape.tokens * (rows - this.tasks.length),
      cachedTokens: shape.lengths.reduce((sum, lengths) => sum + (lengths[0] ?? 0), 0),
      execution: { ...time, samples: rows },
    };
  }

  /** When it is over, whatever it came to. @returns whether it was made and not run */
  async settled(): Promise<boolean> {
    const nothingRun = await this.#answer.then(
      (answer) => answer === undefined,
      () => false,
    );
    return nothingRun && this.step !== undefined;
  }
}

function isCancelled(thrown: unknown): boolean {
  return thrown instanceof HeartwoodError && thrown.code === 'CANCELLED';
}
