import type { RowCopy } from '../../../libs/runtime/resident.js';
import { CacheRows, type RowMove } from './cache/cache-rows.js';
import type { ModelRun, RunInput, RunOutput } from './model-run.js';
import type { GenerationTask } from './task.js';

export type StepKind = 'prefill' | 'decode';

/** One run that is being made: for whom, and with what. */
export interface Step {
  readonly kind: StepKind;
  readonly tasks: readonly GenerationTask[];
  readonly input: RunInput;
}

/** What a step has drawn for a request, or why it could not. */
export type Drawn = { readonly task: GenerationTask } & (
  { readonly ms: number; readonly first: boolean } | { readonly error: unknown }
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

  /** The run, as things are now; undefined where there is none any more. */
  make(kind: StepKind): Step | undefined {
    this.#last = kind;
    return kind === 'prefill' ? this.#prefill() : this.#decode();
  }

  /** Moves between rows that have to be made before the next run. */
  takeCopies(): readonly RowCopy[] {
    return this.#copies.splice(0);
  }

  /** Draws from what the run came to; whose text has ended keeps its row until `sweep`. */
  finish({ kind, tasks, input }: Step, output: RunOutput): Drawn[] {
    if (kind === 'prefill') return this.#prefilled(tasks[0]!, input, output);
    const drawn: Drawn[] = [];
    for (const [index, task] of tasks.entries()) {
      task.decoded(output.lengths[index]!);
      if (!task.over) drawn.push(draw(task, output.logits[index]![0]!));
    }
    return drawn;
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
    const input = {
      ...{ row, ids: [ids], wanted },
      ...{ positions: [task.position], lengths: [task.lengths], budgets: [task.request.budget] },
    };
    return { kind: 'prefill', tasks: [task], input };
  }

  #decode(): Step | undefined {
    const tasks = this.#rows.batch;
    if (tasks.length === 0) return undefined;
    const input = {
      row: this.#rows.first,
      ids: tasks.map((task) => [task.lastToken]),
      wanted: [0],
      positions: tasks.map((task) => task.position),
      lengths: tasks.map((task) => task.lengths),
      budgets: tasks.map((task) => task.request.budget),
    };
    return { kind: 'decode', tasks, input };
  }

  #prefilled(
    task: GenerationTask,
    { ids: [ids] }: RunInput,
    { lengths: [lengths], logits: [logits] }: RunOutput,
  ): Drawn[] {
    const { row } = this.#prefilling!;
    task.prefilled(ids!.length, lengths!, logits!);
    if (task.prefixKey !== undefined && ids!.length === this.chunk) this.#rows.keep(row, ids!, lengths!);
    if (task.over || task.position < task.request.prompt.length) return [];
    this.#prefilling = undefined;
    this.#copy(this.#rows.join(row));
    return [draw(task, logits!.at(-1)!)];
  }

  #copy(move: RowMove | undefined): void {
    if (move) this.#copies.push(this.run.copyOf(move));
  }
}

function draw(task: GenerationTask, logits: Float32Array): Drawn {
  try {
    return { task, ...task.draw(logits) };
  } catch (error) {
    return { task, error };
  }
}
