import { HeartwoodError, invalid } from '../../../libs/errors/error.js';
import { release } from '../../../libs/runtime/release.js';
import { isAbort } from '../../grpc/errors.js';
import type { Catalog } from '../catalog/catalog.js';
import { asClassifier, type ServedClassifier, type ServedVersion, TOKENS_KEPT } from '../catalog/served-version.js';
import type { Place } from '../scheduling/scheduler.js';
import type { InferenceAnswer, InferenceCall } from './call.js';
import { type FeedMaker, type Feeds, makeFeeds } from './feeds.js';
import { tokensKeptOf } from './flops.js';
import type { InferenceObserver, InferenceRecord, InferenceRun, Phase } from './record.js';
import { noShadow, type Shadow, type ShadowedCall } from './shadow.js';
import { tellAll } from './tell.js';
import type { InferenceResult } from '../scheduling/scheduler.js';

/** What is noted of a call on its way. */
interface Journal {
  readonly started: number;
  readonly phases: Partial<Record<Phase, number>>;
  outcome: InferenceRecord['outcome'];
  version?: ServedVersion;
  run?: InferenceRun;
  /** Undefined where the call was not picked. */
  shadowed?: ShadowedCall | undefined;
  result?: InferenceResult;
}

/** One call from what was asked to its answer, whichever protocol it came by. */
export class Inference {
  constructor(
    private readonly catalog: Catalog,
    private readonly maker: FeedMaker,
    private readonly observers: readonly InferenceObserver[],
    private readonly report: (error: unknown) => void,
    private readonly shadow: Shadow = noShadow,
  ) {}

  /**
   * Answers one call. `respond` makes of the answer what the protocol says, as part of the call's time.
   * Throws INVALID_ARGUMENT, NOT_FOUND, UNAVAILABLE, RESOURCE_EXHAUSTED, DEADLINE_EXCEEDED, CANCELLED, INTERNAL.
   */
  async infer<T>(call: InferenceCall, signal: AbortSignal, respond: (answer: InferenceAnswer) => T): Promise<T> {
    const journal: Journal = { started: performance.now(), phases: {}, outcome: 'OK' };
    try {
      journal.version = this.catalog.resolve(call.model, call.version);
      const served = asClassifier(journal.version);
      return await served.hold(async () => {
        const answer = await this.#admitted(served, call, signal, journal);
        journal.run = answer.run;
        const answered = performance.now();
        const response = respond(answer);
        journal.phases.postprocess = performance.now() - answered;
        return response;
      });
    } catch (thrown) {
      journal.outcome = thrown instanceof HeartwoodError ? thrown.code : isAbort(thrown) ? 'CANCELLED' : 'INTERNAL';
      throw thrown;
    } finally {
      journal.phases.total = performance.now() - journal.started;
      const { version, outcome, phases, run } = journal;
      tellAll(this.observers, { version, outcome, phases, trace: call.trace, ...(run ? { run } : {}) }, this.report);
      this.#endShadow(journal);
    }
  }

  #endShadow({ outcome, shadowed, result }: Journal): void {
    try {
      if (outcome === 'OK' && result) shadowed?.answered(result);
      else shadowed?.failed();
    } catch (thrown) {
      this.report(thrown);
    }
  }

  /** Asks for a place before anything is decoded: what is beyond the queue's limit costs next to nothing. */
  async #admitted(
    served: ServedClassifier,
    call: InferenceCall,
    signal: AbortSignal,
    journal: Journal,
  ): Promise<InferenceAnswer> {
    const place = served.scheduler.admit();
    try {
      return await this.#run(served, place, call, signal, journal);
    } finally {
      place.leave();
    }
  }

  async #run(
    served: ServedClassifier,
    place: Place,
    call: InferenceCall,
    signal: AbortSignal,
    journal: Journal,
  ): Promise<InferenceAnswer> {
    const { started, phases } = journal;
    const contents = call.contents();
    const wanted = wantedOutputs(served, contents.outputs);
    const deadline = contents.timeoutMs === undefined ? undefined : started + contents.timeoutMs;
    const feeds = await makeFeeds(this.maker, served, contents, signal);
    const { tensors, batch, budget } = feeds;
    phases.preprocess = performance.now() - started;
    if (call.purpose !== 'comparison') journal.shadowed = this.shadow.pick(served, feeds);

    // What each stage kept is always asked for: it is how FLOPs are accounted for.
    const accounted = served.answers(TOKENS_KEPT) ? [TOKENS_KEPT] : [];
    const fetched = [...new Set([...wanted, ...accounted, ...(journal.shadowed?.outputs ?? [])])];
    const { priority } = contents;
    const job = { feeds: tensors, batch, outputs: fetched, signal, priority, deadline };
    const result = await place.submit(job).finally(() => releaseAll(tensors));
    journal.result = result;
    phases.queue = result.queueMs;
    phases.compute = result.computeMs;

    const tokensKept = tokensKeptOf(served.manifest, result.outputs[TOKENS_KEPT], batch);
    const flops = tokensKept.map((kept) => served.flopsOf(kept));
    const outputs = wanted.map((name) => ({ name, value: result.outputs[name]! }));
    const { runBatch, queueMs, execution, joules } = result;
    const tokens = served.manifest.tokens.total;
    const run = { batch, runBatch, execution, tokens, tokensKept, flops, budget };
    return { served, outputs, queueMs, run, joules };
  }
}

/** Of a job that has left the queue for good: what is kept of it for a shadow run is a copy. */
function releaseAll(tensors: Feeds['tensors']): void {
  for (const { data } of Object.values(tensors)) if (!Array.isArray(data)) release(data);
}

/** The names of the outputs asked for; all where none is. Throws INVALID_ARGUMENT. */
function wantedOutputs(served: ServedClassifier, names: readonly string[]): readonly string[] {
  const known = served.outputs.map(({ name }) => name);
  if (names.length === 0) return known;
  for (const [index, name] of names.entries()) {
    if (!known.includes(name))
      throw invalid(`unknown output ${JSON.stringify(name.slice(0, 140))}, expected ${known.join(', ')}`);
    if (names.indexOf(name) !== index) throw invalid(`output ${name}: asked for twice`);
  }
  return names;
}
