import { HeartwoodError } from '../../../libs/errors/error.js';
import { isAbort } from '../../grpc/errors.js';
import type { Catalog } from '../catalog/catalog.js';
import { asLanguageModel, type ServedLanguageModel, type ServedVersion } from '../catalog/served-version.js';
import type { EndEvent, GenerationEvent } from '../generation/event.js';
import type { GenerationRequest, GenerationTerms, Sampling } from '../generation/request.js';
import type { ForcedText } from '../generation/teacher-forcing.js';
import { type BudgetPolicy, namedBudget } from './budget.js';
import type { CallPurpose } from './call.js';
import type { InferenceObserver, InferenceRecord } from './record.js';
import { noShadow, type Shadow } from './shadow.js';
import { mapped } from './mapped.js';
import type { TextSource } from './text-source.js';
import { tellAll } from './tell.js';
import type { Trace } from './trace.js';

/** A text that is asked for, whichever protocol it came by. */
export interface GenerationCall {
  readonly model: string;
  /** '' stands for the default. */
  readonly version: string;
  /** What its caller knows it by. */
  readonly trace?: Trace | undefined;
  /** What it is for; the texts of a comparison are no live data, and are not shadowed. Default 'client'. */
  readonly purpose?: CallPurpose;
  /** Reads the rest when the version is known, so that a bad one counts for it. Throws INVALID_ARGUMENT naming the field. */
  contents(): GenerationContents;
}

/** What a caller says; the version's defaults fill in the rest. */
export interface GenerationContents extends Omit<GenerationRequest, 'sampling'> {
  readonly sampling: Partial<Sampling>;
  /** 1 is served first, greater numbers later. */
  readonly priority?: number | undefined;
  /** Milliseconds from the call's arrival by which its text has to have ended. */
  readonly timeoutMs?: number | undefined;
}

/** A text under way: the version that it is of, and its events. */
export interface GenerationAnswer {
  readonly served: ServedLanguageModel;
  /** Nats that it was asked with; undefined where the version has no budget. */
  readonly budget: number | undefined;
  /** Tokens of the prompt that was asked with, before it was cut to the context where that may be. */
  readonly promptTokens: number;
  readonly events: AsyncIterable<GenerationEvent>;
  /** Joules of its share of the runs so far; undefined without a meter. To be asked for once it has ended. */
  joules(): Promise<number | undefined>;
}

/** Follows the steps that a request had a part in. */
export interface RequestMeter {
  readonly stepped: NonNullable<GenerationTerms['stepped']>;
  /** Undefined where more of it was not metered than can be passed over. */
  joules(): Promise<number | undefined>;
  /** The request has ended: it is charged, however it ended. */
  close(): void;
}

/** Opens a meter for one request to a version; undefined where nothing is metered. */
export type OpenRequestMeter = (served: ServedLanguageModel) => RequestMeter | undefined;

/** One text from what was asked to its end, whichever protocol it came by: what `Inference` is for images. */
export class Generation {
  constructor(
    private readonly catalog: Pick<Catalog, 'resolve'>,
    private readonly budgets: BudgetPolicy,
    private readonly observers: readonly InferenceObserver[],
    private readonly report: (error: unknown) => void,
    private readonly openMeter: OpenRequestMeter = () => undefined,
    private readonly shadow: Pick<Shadow, 'pickText'> = noShadow,
  ) {}

  /**
   * Generates for one call. `respond` makes of the text under way what the protocol says; whoever leaves its iteration, or the signal,
   * cancels the text.
   * Throws INVALID_ARGUMENT, NOT_FOUND, UNAVAILABLE, RESOURCE_EXHAUSTED, DEADLINE_EXCEEDED, CANCELLED, INTERNAL.
   */
  async *generate<T>(
    call: GenerationCall,
    signal: AbortSignal,
    respond: (answer: GenerationAnswer) => AsyncIterable<T>,
  ): AsyncGenerator<T, void, undefined> {
    const started = performance.now();
    let failure: InferenceRecord['outcome'] | undefined;
    let version: ServedVersion | undefined;
    let end: EndEvent | undefined;
    let meter: RequestMeter | undefined;
    let shadowed: (() => void) | undefined;
    let release = (): void => undefined;
    try {
      version = this.catalog.resolve(call.model, call.version);
      const served = asLanguageModel(version);
      release = served.acquire();
      const { priority, timeoutMs, ...asked } = call.contents();
      meter = this.openMeter(served);
      const named = namedBudget(served, asked.budget);
      const budget = served.manifest.budget === null ? undefined : (named ?? this.budgets.budgetOf(served));
      const terms = {
        priority,
        deadline: timeoutMs === undefined ? undefined : started + timeoutMs,
        stepped: meter?.stepped,
      };
      const request = await served.engine.prepare(requestOf(served, asked, budget), signal, terms);
      const events = served.engine.generate(request, signal, terms);
      const picked = call.purpose === 'comparison' ? undefined : this.shadow.pickText(served);
      const tokens: number[] = [];
      const watched = mapped(events, (event) => {
        if (event.kind === 'end') end = event;
        else if (picked) for (const { id } of event.tokens) tokens.push(id);
        return event;
      });
      shadowed = () => picked && end && picked.answered(forcedText(request.prompt, tokens, end, budget));
      yield* respond({
        ...{ served, budget, events: watched, promptTokens: request.prompt.length },
        joules: () => meter?.joules() ?? Promise.resolve(undefined),
      });
    } catch (thrown) {
      failure = thrown instanceof HeartwoodError ? thrown.code : isAbort(thrown) ? 'CANCELLED' : 'INTERNAL';
      throw thrown;
    } finally {
      release();
      meter?.close();
      // Whoever left before the end has cancelled it.
      const outcome = failure ?? (end ? 'OK' : 'CANCELLED');
      const phases = { ...(end ? { queue: end.timing.queueMs } : {}), total: performance.now() - started };
      tellAll(
        this.observers,
        { version, outcome, phases, trace: call.trace, ...(end ? { text: end } : {}) },
        this.report,
      );
      if (outcome === 'OK') this.#endShadow(shadowed);
    }
  }

  #endShadow(shadowed: (() => void) | undefined): void {
    try {
      shadowed?.();
    } catch (thrown) {
      this.report(thrown);
    }
  }
}

/**
 * What was read and drawn. A prompt that was cut lost its beginning, and where the prompt's log-probabilities were asked for its tokens come before
 * those of the text.
 */
function forcedText(
  prompt: readonly number[],
  tokens: readonly number[],
  { usage }: EndEvent,
  budget: number | undefined,
): ForcedText {
  return { prompt: prompt.slice(-usage.promptTokens), answer: tokens.slice(-usage.completionTokens), budget };
}

/** What was asked, and for the rest what the version's generation_config.json says, else greedy. */
function requestOf(
  { manifest }: ServedLanguageModel,
  { sampling, ...asked }: Omit<GenerationContents, 'priority' | 'timeoutMs'>,
  budget: number | undefined,
): GenerationRequest {
  const { defaults } = manifest.text;
  return {
    ...asked,
    budget,
    maxTokens: asked.maxTokens ?? defaults.maxTokens,
    sampling: {
      temperature: sampling.temperature ?? defaults.temperature ?? 0,
      topK: sampling.topK ?? defaults.topK ?? 0,
      topP: sampling.topP ?? defaults.topP ?? 1,
      repetitionPenalty: sampling.repetitionPenalty ?? defaults.repetitionPenalty ?? 1,
      seed: sampling.seed,
    },
  };
}

/** Texts by the road of every other request, for who is in this process. */
export function textSourceOf(generation: Generation, purpose: CallPurpose = 'client'): TextSource {
  return {
    generate({ model, version, energy: _energy, ...contents }, signal) {
      const call = { model, version: String(version ?? ''), purpose, contents: () => contents };
      return generation.generate(call, signal, async function* ({ served, events, budget }) {
        for await (const event of events) {
          if (event.kind === 'text') yield event;
          else yield { ...event, model: served.model, version: served.version, budget };
        }
      });
    },
  };
}
