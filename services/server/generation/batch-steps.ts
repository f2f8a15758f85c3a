import type { RowCopy } from '../../../libs/runtime/resident.js';
import { CacheRows, type RowMove } from './cache/cache-rows.js';
import type { ModelRun, RunShape } from './model-run.js';
import type { DrawnToken, RelayedTokens, TokenMessage } from './sampling/relayed-tokens.js';
import type { GenerationTask } from './task.js';

export type StepKind = 'prefill' | 'decode';

/** One run that is being made: for whom, and with what. */
export interface Step {
  readonly kind: StepKind;
  readonly tasks: readonly GenerationTask[];
  readonly shape: RunShape;
  /** What the worker is told of it. */
  readonly message: TokenMessage;
  /** Moves between rows that have to be made before it. */
  readonly copies: readonly RowCopy[];
}

/** What a step has drawn for a request, or why it could not. */
export type Drawn = { readonly task: GenerationTask } & (
  { readonly ms: number; readonly first: boolean } | { readonly error: string }
);

/**
 * Who is in the batch, and what its next run is: a chunk of one prompt, or a token of every request that decodes, in turn where there is
 * both, so that a long prompt holds the running texts up by one chunk at a time.
 */
export class BatchSteps {
  readonly #rows: CacheRows<GenerationTask>;
  #prefilling: { readonly task: GenerationTask; row: number } | undefined;
  #last: StepKind = 'decode';
  #copies: RowCopy[] = [];

  constructor(
    private readonly run: ModelRun,
    rows: number,
    private readonly chunk: number,
    /** Whether every run has to ask for some token's logits, as it has where the graph may not be left without rows. */
    private readonly alwaysAsks: boolean,
  ) {
    this.#rows = new CacheRows(rows, chunk, run.groups);
  }

  /** Everybody who has a row. */
  get tasks(): readonly GenerationTask[] {
    return this.#prefilling ? [...this.#rows.batch, this.#prefilling.task] : this.#rows.batch;
  }

  /** Whether another prompt can be begun. */
  get open(): boolean {
    return this.#prefilling === undefined && this.#rows.free > 0;
  }

  begin(task: GenerationTask): void {
    const { row, chunks, lengths, move } = this.#rows.place(task, task.request.prompt, task.prefixKey);
    this.#copy(move);
    this.#prefilling = { task, row };
    task.begin(chunks * this.chunk, lengths);
  }

  /** Takes out who has ended. */
  sweep(): void {
    if (this.#prefilling?.task.over) {
      this.#rows.leave(this.#prefilling.task);
      this.#prefilling = undefined;
    }
    for (const task of this.#rows.batch) if (task.over) this.#copy(this.#rows.leave(task));
  }

  /** What is to be run next, if anything. */
  next(): StepKind | undefined {
    const decoding = this.#rows.count > 0;
    if (this.#prefilling && (!decoding || this.#last === 'decode')) return 'prefill';
    return decoding ? 'decode' : undefined;
  }

  /**
   * Whether the run behind one that was made can be asked for before that has been answered: a token of the same requests, as far as none is
   * known to end and no prompt is to come between.
   */
  get foreseen(): boolean {
    const { batch } = this.#rows;
    return (
      this.#last === 'decode' && this.#prefilling === undefined && batch.length > 0 && !batch.some(({ full }) => full)
    );
  }

  /** The run, as things are now; undefined where there is none any more. */
  make(kind: StepKind): Step | undefined {
    this.#last = kind;
    return kind === 'prefill' ? this.#prefill() : this.#decode();
  }

  /** A step of drawn tokens, the last that was made, was not run: all is as it was before. */
  unmake({ tasks, copies }: Step): void {
    for (const task of tasks) task.undecodes();
    this.#copies.unshift(...copies);
  }

  /** Hands out what the run came to; whose text has ended keeps its row until `sweep`. */
  finish(step: Step, told: RelayedTokens): Drawn[] {
    if (step.kind === 'prefill') return this.#prefilled(step, told);
    return step.tasks.flatMap((task, index) => (task.over ? [] : [take(task, told.drawn[index]!)]));
  }

  /** Everybody is out, and the cache as new. */
  clear(): void {
    this.#rows.clear();
    this.#prefilling = undefined;
    this.#copies = [];
  }

  #prefill(): Step | undefined {
    if (this.#prefilling === undefined) return undefined;
    const { task, row } = this.#prefilling;
    const ids = task.nextChunk(this.chunk);
    const last = task.position + ids.length === task.request.prompt.length;
    const wanted = task.scoresPrompt ? [...ids.keys()] : last || this.alwaysAsks ? [ids.length - 1] : [];
    const shape = {
      ...{ row, tokens: ids.length, wanted },
      ...{ positions: [task.position], lengths: [task.lengths], budgets: [task.request.budget] },
    };
    const message = task.promptMessage(ids, idsOf(this.#rows.batch));
    return { kind: 'prefill', tasks: [task], shape, message, copies: this.#takeCopies() };
  }

  #decode(): Step | undefined {
    const tasks = this.#rows.batch;
    if (tasks.length === 0) return undefined;
    const shape = {
      ...{ row: this.#rows.first, tokens: 1, wanted: [0] },
      positions: tasks.map((task) => task.position),
      lengths: tasks.map((task) => task.lengths),
      budgets: tasks.map((task) => task.request.budget),
    };
    for (const task of tasks) task.decodes();
    const message = { kind: 'draw', requests: idsOf(tasks) } as const;
    return { kind: 'decode', tasks, shape, message, copies: this.#takeCopies() };
  }

  #prefilled(
    { tasks: [task], shape: { tokens } }: Step,
    { lengths: [lengths], scored, drawn: [drawn] }: RelayedTokens,
  ): Drawn[] {
    const { row } = this.#prefilling!;
    const ids = task!.request.prompt.slice(task!.position, task!.position + tokens);
    task!.prefilled(tokens, lengths!, scored);
    if (task!.prefixKey !== undefined && tokens === this.chunk) this.#rows.keep(row, ids, lengths!);
    if (task!.over || drawn === undefined) return [];
    this.#prefilling = undefined;
    this.#copy(this.#rows.join(row));
    return [take(task!, drawn)];
  }

  #takeCopies(): readonly RowCopy[] {
    return this.#copies.splice(0);
  }

  #copy(move: RowMove | undefined): void {
    if (move) this.#copies.push(this.run.copyOf(move));
  }
}

function idsOf(tasks: readonly GenerationTask[]): readonly number[] {
  return tasks.map(({ id }) => id);
}

function take(task: GenerationTask, drawn: DrawnToken): Drawn {
  return { task, ...('error' in drawn ? drawn : task.drew(drawn)) };
}
