import { HeartwoodError, internal } from '../../../libs/errors/error.js';
import { servedChunk } from '../../../libs/pruning/prompt/parameters.js';
import type { ResidentMemory } from '../../../libs/runtime/resident.js';
import type { Session } from '../../../libs/runtime/runtime.js';
import { BatchSteps, type Drawn, type StepKind } from './batch-steps.js';
import { checkRequest, checkTokens, textToEncode } from './checked-request.js';
import type { EngineLoad, GenerationEngine } from './engine.js';
import type { GenerationEvent } from './event.js';
import { ModelRun, tokenRelay } from './model-run.js';
import type { GenerationObserver } from './observer.js';
import { observeBy } from './observers.js';
import type { GenerationRequest, GenerationTerms, TokenRequest } from './request.js';
import type { GenerationModel } from './served-graph.js';
import type { GenerationSettings } from './settings.js';
import { GenerationTask } from './task.js';
import { EventStream } from './text/event-stream.js';
import { Turn } from './turn.js';
import { Untold } from './untold.js';
import type { Vocabulary } from './vocabulary.js';
import { WaitingTasks } from './waiting-tasks.js';
import { cancelled, tooLate, watchCaller } from './watch-caller.js';

export interface EngineParts {
  /** Of a graph of libs/models/generation-graph.ts. One worker holds the caches, so a second instance would be idle. */
  readonly session: Session;
  readonly model: GenerationModel;
  readonly vocabulary: Vocabulary;
  readonly settings: GenerationSettings;
  readonly observers?: readonly GenerationObserver[];
  /** Told what an observer threw. */
  readonly report?: (error: unknown) => void;
}

/** A prompt that so many workers died of is not tried again. */
const mostLosses = 2;

/**
 * Opens an engine: makes the caches in a worker of the session. Throws INVALID_ARGUMENT (the graph is not one that generates),
 * FAILED_PRECONDITION (not one row fits the bytes that caches may have), RESOURCE_EXHAUSTED (no memory), UNAVAILABLE.
 */
export async function openEngine(parts: EngineParts): Promise<GenerationEngine> {
  const { session, model, settings } = parts;
  const run = new ModelRun(model, session);
  const missing = run.missing();
  if (missing !== undefined) throw new HeartwoodError('INVALID_ARGUMENT', `the model has no ${missing}`);
  const context = Math.min(settings.generationContext ?? model.context, model.context);
  const rowBytes = model.caches.reduce((sum, { heads, width }) => sum + 2 * 4 * heads * width * context, 0);
  const rows = Math.min(settings.generationRows, Math.floor(settings.generationCacheBytes / rowBytes));
  if (rows < 1) {
    throw new HeartwoodError(
      'FAILED_PRECONDITION',
      `the cache of one request of ${context} tokens takes ${rowBytes} bytes, expected at most the ${settings.generationCacheBytes} that caches may have`,
    );
  }
  const memory = await run.allocate(rows, context, tokenRelay);
  return new ContinuousEngine(parts, run, memory, rows, context);
}

/**
 * Continuous batching (Yu et al. 2022, "Orca: a distributed serving system for transformer-based generative models"). The worker draws the tokens
 * itself, and while it is at a run over drawn tokens the next is asked for already, where it can be foreseen: so it goes on without a pause. Who ends
 * meanwhile has left a row in that run, of which nobody is told.
 */
class ContinuousEngine implements GenerationEngine {
  readonly #waiting = new WaitingTasks();
  readonly #steps: BatchSteps;
  readonly #observer: Required<GenerationObserver>;
  /** Prompts that are being encoded: aborted with why, when nobody waits for one any more. */
  readonly #encoding = new Set<AbortController>();
  readonly #release = new Map<GenerationTask, () => void>();
  readonly #untold: Untold;
  #loop: Promise<void> | undefined;
  /** The turn that was asked for behind the one that is under way. */
  #next: Turn | undefined;
  /** When the last turn was answered. */
  #answeredAt = 0;
  #lastId = 0;
  #closed = false;

  constructor(
    private readonly parts: EngineParts,
    private readonly run: ModelRun,
    private memory: ResidentMemory,
    private readonly rows: number,
    readonly context: number,
  ) {
    const { settings, model, observers = [], report = () => undefined } = parts;
    this.#observer = observeBy(observers, report);
    this.#untold = new Untold(this.#observer, report);
    const staged = model.stages.length > 0;
    const chunk = staged ? (model.stageChunk ?? servedChunk) : settings.prefillChunk;
    // Token stages may drop what is not wanted and have to leave something; a convolution takes no image without pixels.
    this.#steps = new BatchSteps(run, rows, chunk, staged || model.convolves === true);
  }

  get load(): EngineLoad {
    const { tasks } = this.#steps;
    return {
      running: tasks.length,
      waiting: this.#waiting.length + this.#encoding.size,
      rows: this.rows,
      cachedTokens: tasks.reduce((sum, { lengths }) => sum + (lengths[0] ?? 0), 0),
      cacheTokens: this.rows * this.context,
      cacheBytes: this.memory.bytes,
    };
  }

  async prepare(
    request: GenerationRequest,
    signal: AbortSignal,
    { deadline }: GenerationTerms = {},
  ): Promise<TokenRequest> {
    this.#admit(signal);
    const { model, vocabulary } = this.parts;
    const text = textToEncode(request, model, this.context, vocabulary);
    if (text === undefined) return request as TokenRequest;
    // A timer for it might come behind the tokens.
    if (deadline !== undefined && deadline <= performance.now()) throw tooLate();
    const encoding = new AbortController();
    const release = watchCaller(signal, deadline, (error) => encoding.abort(error));
    try {
      const ids = vocabulary.encodeAside(text, encoding.signal);
      if (ids instanceof Promise) this.#encoding.add(encoding);
      return { ...request, prompt: checkTokens(await ids, model) };
    } finally {
      this.#encoding.delete(encoding);
      release();
    }
  }

  generate(
    request: GenerationRequest,
    signal: AbortSignal,
    terms: GenerationTerms = {},
  ): AsyncIterable<GenerationEvent> {
    this.#admit(signal);
    const { model, vocabulary } = this.parts;
    const checked = checkRequest(request, model, this.context, vocabulary);
    const stream = new EventStream(() => this.#end(task, cancelled()), this.parts.settings.streamIntervalMs);
    const task: GenerationTask = new GenerationTask(++this.#lastId, checked, vocabulary, terms, stream);
    this.#release.set(
      task,
      watchCaller(signal, task.deadline, (error) => this.#end(task, error)),
    );
    this.#waiting.enter(task);
    // Its prompt comes first.
    if (this.#steps.open) this.#next?.withdraw();
    this.#wake();
    return task.stream;
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const encoding of this.#encoding) encoding.abort(closed());
    this.#endAll(closed());
    await this.#loop;
    await this.memory.free();
  }

  #admit(signal: AbortSignal): void {
    if (this.#closed) throw closed();
    const { generationQueueLimit: limit } = this.parts.settings;
    if (this.#waiting.length + this.#encoding.size >= limit)
      throw new HeartwoodError(
        'RESOURCE_EXHAUSTED',
        `the queue is full: ${limit} requests wait for a row of the cache`,
      );
    if (signal.aborted) throw cancelled();
  }

  /** A request ends, by an error or without; its row is taken from it before the next run. */
  #end(task: GenerationTask, error?: HeartwoodError): void {
    if (task.over) return;
    task.end();
    this.#waiting.remove(task);
    this.#release.get(task)?.();
    this.#release.delete(task);
    if (error) {
      task.fail(error);
      // Its row would be in it.
      this.#next?.withdraw();
    }
    this.#observer.ended(task.record(error?.code ?? 'OK'));
  }

  #endAll(error: HeartwoodError): void {
    for (const task of [...this.#waiting.all, ...this.#steps.tasks]) this.#end(task, error);
  }

  #wake(): void {
    this.#loop ??= this.#work().finally(() => {
      this.#loop = undefined;
      // Somebody may have come between the last look and now.
      if (this.#waiting.length > 0) this.#wake();
    });
  }

  async #work(): Promise<void> {
    try {
      let turn = this.#ask();
      while (turn !== undefined) turn = (await this.#take(turn)) ?? this.#ask();
    } catch (thrown) {
      this.#endAll(thrown instanceof HeartwoodError ? thrown : internal('the engine failed', thrown));
      this.#steps.sweep();
    } finally {
      this.#untold.tell();
    }
  }

  /** One turn to its answer. @returns the turn that was asked for meanwhile */
  async #take(turn: Turn): Promise<Turn | undefined> {
    if (turn.step === undefined) this.#untold.tell();
    await turn.given;
    turn.begins();
    const next = (this.#next = this.#ahead(turn));
    // While the worker is at it.
    this.#untold.tell();
    if (turn.step !== undefined) this.#observer.stepBegins(Math.max(turn.givenAt, this.#answeredAt));
    const whole = await this.#answered(turn);
    this.#next = undefined;
    if (whole) return next;
    // What was asked for behind a run that failed was for the same requests.
    if (await next?.settled()) this.#steps.unmake(next!.step!);
    if (this.memory.lost) await this.#recover();
    return undefined;
  }

  /** The turn behind one that is under way, where it is known whatever that comes to. */
  #ahead({ step, withdrawn }: Turn): Turn | undefined {
    if (step?.kind !== 'decode' || withdrawn) return undefined;
    // A row that was left lets a prompt in.
    this.#steps.sweep();
    const promptWaits = this.#steps.open && this.#waiting.length > 0;
    return this.#steps.foreseen && !promptWaits ? this.#turn('decode', true) : undefined;
  }

  /** The next turn, as things are now; undefined where there is nothing to do. */
  #ask(): Turn | undefined {
    this.#steps.sweep();
    if (this.#steps.open && this.#waiting.length > 0) this.#steps.begin(this.#waiting.take()!);
    const kind = this.#steps.next();
    return kind && this.#turn(kind, false);
  }

  #turn(kind: StepKind, ahead: boolean): Turn {
    const make = () => {
      // Who has gone since the turn was asked for costs nothing.
      this.#steps.sweep();
      const step = this.#steps.make(kind);
      return step && { step, run: this.run.relayed(step.shape, step.copies, step.message) };
    };
    return new Turn(this.parts.session, make, { memory: this.memory, priority: () => this.#priority(), ahead });
  }

  /** @returns whether it did not fail */
  async #answered(turn: Turn): Promise<boolean> {
    try {
      const answer = await turn.answer();
      if (answer === undefined) {
        this.#notRun(turn);
        return true;
      }
      const endedAt = performance.now();
      const startedAt = Math.max(this.#answeredAt, endedAt - answer.durationMs);
      this.#answeredAt = endedAt;
      for (const drawn of this.#steps.finish(turn.step!, answer.told)) this.#drawn(drawn);
      const step = turn.taken(answer, this.parts.model.stages.length, { startedAt, endedAt });
      this.#untold.step(step, turn.tasks);
      return true;
    } catch (thrown) {
      if (turn.step !== undefined) this.#observer.stepFailed();
      if (this.memory.lost) this.#lost(thrown);
      else this.#failed(turn.step?.tasks ?? this.#steps.tasks, thrown);
      return false;
    }
  }

  #notRun({ step }: Turn): void {
    if (step === undefined) return;
    this.#observer.stepFailed();
    this.#steps.unmake(step);
  }

  #drawn(drawn: Drawn): void {
    const { task } = drawn;
    if ('error' in drawn) return this.#failed([task], internal(drawn.error));
    this.#untold.token(task, drawn);
    if (task.finished) this.#end(task);
  }

  #failed(tasks: readonly GenerationTask[], thrown: unknown): void {
    const error = thrown instanceof HeartwoodError ? thrown : internal('a step of generation failed', thrown);
    for (const task of tasks) this.#end(task, error);
  }

  /** The worker has died, and the caches with it. Whose text had begun is told; a prompt that was being prefilled is begun again. */
  #lost(thrown: unknown): void {
    const error = new HeartwoodError(
      'UNAVAILABLE',
      'the worker died with the cache of the request; it may be tried again',
      {
        cause: thrown,
      },
    );
    for (const task of this.#steps.tasks) {
      if (task.over) continue;
      if (!task.hasText && ++task.losses < mostLosses) this.#waiting.enterFirst(task);
      else this.#end(task, error);
    }
    this.#steps.clear();
    this.#untold.tell();
  }

  /** Throws where there is no worker to be had. */
  async #recover(): Promise<void> {
    for (let attempt = 1; this.memory.lost; attempt++) {
      try {
        this.memory = await this.run.allocate(this.rows, this.context, tokenRelay);
      } catch (again) {
        if (attempt === 3) throw again;
      }
    }
  }

  /** The most urgent of those that the next run is for. */
  #priority(): number {
    return this.#steps.tasks.reduce((least, { priority }) => Math.min(least, priority), Infinity);
  }
}

function closed(): HeartwoodError {
  return new HeartwoodError('UNAVAILABLE', 'the version is being unloaded');
}
