import { type ErrorCode, HeartwoodError, invalid } from '../../libs/errors/error.js';
import type { ModelInferRequest, ModelInferResponse } from '../../proto/gen/open_inference_grpc.js';
import { isAbort } from '../grpc-errors.js';
import type { Catalog } from './catalog.js';
import { type FeedMaker, makeFeeds } from './feeds.js';
import { flopsOf, tokensKeptOf } from './flops.js';
import { type ServedVersion, TOKENS_KEPT } from './served-version.js';
import { encodeOutput } from './tensor-codec.js';

export type Phase = 'queue' | 'preprocess' | 'compute' | 'postprocess' | 'total';

/** What there is to know of a request that has ended. */
export interface InferenceRecord {
  /** Undefined when the request named no version that is served. */
  readonly version: ServedVersion | undefined;
  readonly outcome: 'OK' | ErrorCode;
  /** Milliseconds of each phase that the request reached. */
  readonly phases: Partial<Record<Phase, number>>;
  /** The rest is there when the model ran. */
  readonly run?: {
    readonly batch: number;
    /** [sample][stage]. */
    readonly tokensKept: readonly (readonly number[])[];
    /** Of each sample. */
    readonly flops: readonly number[];
    readonly budget: readonly number[] | undefined;
  };
}

/** Told of every request: metrics, meters and controllers hang on it. */
export interface InferenceObserver {
  ended(record: InferenceRecord): void;
}

/** One request from its message to its answer. */
export class Inference {
  constructor(
    private readonly catalog: Catalog,
    private readonly maker: FeedMaker,
    private readonly observers: readonly InferenceObserver[],
    private readonly report: (error: unknown) => void,
  ) {}

  /**
   * Answers one request.
   * Throws INVALID_ARGUMENT, NOT_FOUND, UNAVAILABLE, CANCELLED, INTERNAL.
   */
  async infer(request: ModelInferRequest, signal: AbortSignal): Promise<ModelInferResponse> {
    const started = performance.now();
    const phases: Partial<Record<Phase, number>> = {};
    let version: ServedVersion | undefined;
    let run: InferenceRecord['run'];
    let outcome: InferenceRecord['outcome'] = 'OK';
    try {
      const served = this.catalog.resolve(request.modelName, request.modelVersion);
      version = served;
      return await served.hold(async () => {
        const answer = await this.#run(served, request, signal, phases);
        run = answer.run;
        return answer.response;
      });
    } catch (thrown) {
      outcome = thrown instanceof HeartwoodError ? thrown.code : isAbort(thrown) ? 'CANCELLED' : 'INTERNAL';
      throw thrown;
    } finally {
      phases.total = performance.now() - started;
      this.#tell({ version, outcome, phases, ...(run ? { run } : {}) });
    }
  }

  /** A defect of an observer costs its count, not the client's answer. */
  #tell(record: InferenceRecord): void {
    for (const observer of this.observers) {
      try {
        observer.ended(record);
      } catch (thrown) {
        this.report(thrown);
      }
    }
  }

  async #run(
    served: ServedVersion,
    request: ModelInferRequest,
    signal: AbortSignal,
    phases: Partial<Record<Phase, number>>,
  ): Promise<{ response: ModelInferResponse; run: NonNullable<InferenceRecord['run']> }> {
    const begun = performance.now();
    const wanted = wantedOutputs(served, request);
    const { tensors, batch, budget } = await makeFeeds(this.maker, served, request, signal);
    phases.preprocess = performance.now() - begun;

    // What each stage kept is always asked for: it is how FLOPs are accounted for.
    const fetched = served.answers(TOKENS_KEPT) ? [...new Set([...wanted, TOKENS_KEPT])] : wanted;
    const result = await served.scheduler.submit({ feeds: tensors, batch, outputs: fetched, signal });
    phases.queue = result.queueMs;
    phases.compute = result.computeMs;

    const answered = performance.now();
    const outputs = wanted.map((name) => encodeOutput(name, result.outputs[name]!));
    const tokensKept = tokensKeptOf(served.manifest, result.outputs[TOKENS_KEPT], batch);
    const flops = tokensKept.map((kept) => flopsOf(served.manifest, kept));
    const response = {
      modelName: served.model,
      modelVersion: String(served.version),
      id: request.id,
      parameters: {},
      outputs: outputs.map(({ tensor }) => ({ ...tensor, parameters: {}, contents: undefined })),
      rawOutputContents: outputs.map(({ raw }) => raw),
    };
    phases.postprocess = performance.now() - answered;
    return { response, run: { batch, tokensKept, flops, budget } };
  }
}

/** The names of the outputs asked for; all where none is. Throws INVALID_ARGUMENT. */
function wantedOutputs(served: ServedVersion, { outputs }: ModelInferRequest): string[] {
  const known = served.outputs.map(({ name }) => name);
  if (outputs.length === 0) return known;
  const names = outputs.map(({ name }) => name);
  for (const [index, name] of names.entries()) {
    if (!known.includes(name))
      throw invalid(`unknown output ${JSON.stringify(name.slice(0, 140))}, expected ${known.join(', ')}`);
    if (names.indexOf(name) !== index) throw invalid(`output ${name}: asked for twice`);
  }
  return names;
}
