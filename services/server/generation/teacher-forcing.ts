import { servedChunk } from '../../../libs/pruning/prompt/parameters.js';
import type { Session, TimedRun } from '../../../libs/runtime/runtime.js';
import { backgroundPriority } from '../scheduling/scheduler.js';
import { ModelRun, type RunInput } from './model-run.js';
import type { GenerationModel } from './served-graph.js';

/** A prompt, and tokens behind it that stand for what was generated. */
export interface ForcedText {
  readonly prompt: readonly number[];
  readonly answer: readonly number[];
  /** Nats; undefined: the version's default. */
  readonly budget?: number | undefined;
}

/** Begins a run when its turn has come, and hands on what it came to. */
export type EachRun = (run: () => Promise<TimedRun>) => Promise<TimedRun>;

/** Tokens of the answer that one run is given: as many rows of logits come back. */
const answerChunk = 32;

/**
 * Runs a text through a model that is being served as if the model had generated it (teacher forcing): the prompt in the chunks, and with the
 * budget, that a request's prompt has, then the answer, of which no stage drops a token. It has a cache of its own for as long as it takes, beside the
 * engine's, so that no row is taken from anybody; its runs come after everything that somebody waits for.
 */
export class TeacherForcing {
  constructor(
    private readonly session: Session,
    private readonly model: GenerationModel,
    private readonly prefillChunk: number,
  ) {}

  /**
   * Logits from which each token of the answer would be drawn, a few rows at a time: first the one behind the prompt, then up to 32 a time. Rows
   * are to be read before the next are asked for: they share memory. Throws CANCELLED, RESOURCE_EXHAUSTED (no memory), UNAVAILABLE, INTERNAL.
   *
   * @param each handed every run, which it begins when its turn has come
   */
  async *logits(
    { prompt, answer, budget = this.model.budget ?? 0 }: ForcedText,
    signal: AbortSignal,
    each: EachRun = (run) => run(),
  ): AsyncGenerator<readonly Float32Array[], void, undefined> {
    const run = new ModelRun(this.model, this.session);
    const staged = this.model.stages.length > 0;
    const chunk = staged ? (this.model.stageChunk ?? servedChunk) : this.prefillChunk;
    const alwaysAsks = staged || this.model.convolves === true;
    const memory = await run.allocate(1, prompt.length + answer.length);
    let [position, lengths]: [number, readonly number[]] = [0, new Array<number>(run.groups).fill(0)];
    const step = async (ids: readonly number[], wanted: readonly number[]): Promise<readonly Float32Array[]> => {
      const input: RunInput = {
        ...{ row: 0, ids: [ids], wanted },
        ...{ positions: [position], lengths: [lengths], budgets: [budget] },
      };
      const options = { memory, signal, priority: () => backgroundPriority };
      const { outputs } = await each(() => this.session.runLate(() => run.run(input, []), options));
      const found = run.read(outputs, input);
      position += ids.length;
      lengths = found.lengths[0]!;
      return found.logits[0]!;
    };
    try {
      for (let from = 0; from < prompt.length; from += chunk) {
        const ids = prompt.slice(from, from + chunk);
        const last = from + chunk >= prompt.length;
        const rows = await step(ids, last || alwaysAsks ? [ids.length - 1] : []);
        if (last && answer.length > 0) yield rows;
      }
      // Nobody is to draw behind the last token.
      for (let from = 0; from < answer.length - 1; from += answerChunk) {
        const ids = answer.slice(from, Math.min(from + answerChunk, answer.length - 1));
        yield await step(ids, [...ids.keys()]);
      }
    } finally {
      await memory.free();
    }
  }
}
