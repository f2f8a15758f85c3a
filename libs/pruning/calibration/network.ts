import type { Checkpoint } from '../../models/checkpoint.js';
import { specOf } from '../../models/classifier.js';
import { checkpointWeights } from '../../models/weights.js';
import type { Tensor } from '../../onnx/ir.js';
import { loadGraph } from '../../runtime/load-graph.js';
import type { Runtime, Session } from '../../runtime/runtime.js';
import type { TensorValue } from '../../runtime/tensor.js';
import { measure, type SampleMeasures } from '../measure/measure.js';
import type { PreparedSamples } from '../measure/prepared.js';
import { segmentsOf } from '../segments.js';
import type { Segment } from '../../store/segments.js';
import { candidatesGraph, measuredGraph, tensorNames, thresholdCount } from '../served-graph.js';
import type { StageParameters } from '../stages/parameters.js';

/** A network with merging stages whose thresholds are still open, ready to be measured. */
export interface OpenNetwork {
  readonly stages: readonly StageParameters[];
  readonly tokens: number;
  readonly special: number;
  readonly segments: readonly Segment[];
  /** Runs at these thresholds, one for each matching of each stage. */
  measure(samples: PreparedSamples, thresholds: readonly number[]): Promise<SampleMeasures>;
  /**
   * What the costs are that one matching compares with its threshold, all samples pooled (+∞ where there is nothing to merge), when
   * the matchings before it have these thresholds.
   */
  candidates(
    samples: PreparedSamples,
    stage: number,
    matching: number,
    thresholds: readonly number[],
  ): Promise<Float32Array>;
  dispose(): Promise<void>;
}

/** Loads a network for calibration; sessions of prefixes are made when they are first needed. */
export async function openNetwork(
  runtime: Runtime,
  checkpoint: Checkpoint,
  replaced: ReadonlyMap<string, Tensor>,
  stages: readonly StageParameters[],
  context: { readonly workDirectory: string; readonly signal: AbortSignal },
): Promise<OpenNetwork> {
  const spec = specOf(checkpoint, checkpointWeights(checkpoint, replaced));
  const graph = measuredGraph(checkpoint, replaced, stages);
  const whole = await loadGraph(runtime, graph, context.workDirectory);
  const prefixes = new Map<number, Session>();
  const count = thresholdCount(stages);
  const feeds = (thresholds: readonly number[]) => (size: number) => {
    if (count === 0) return {};
    const data = new Float32Array(size * count);
    for (let row = 0; row < size; row++) thresholds.forEach((value, at) => (data[row * count + at] = value));
    return { [tensorNames.thresholds]: { type: 'float32', dims: [size, count], data } satisfies TensorValue };
  };
  const prefix = async (stage: number): Promise<Session> => {
    const known = prefixes.get(stage);
    if (known) return known;
    const made = await loadGraph(runtime, candidatesGraph(checkpoint, replaced, stages, stage), context.workDirectory);
    prefixes.set(stage, made);
    return made;
  };
  return {
    stages,
    tokens: spec.tokens,
    special: spec.special,
    segments: segmentsOf(
      graph,
      stages.map(({ block }) => block),
      spec.tokens,
    ),
    measure: (samples, thresholds) => measure(whole, samples, feeds(thresholds), { signal: context.signal }),
    async candidates(samples, stage, matching, thresholds) {
      const session = await prefix(stage);
      const name = tensorNames.candidates(stage, matching);
      const pooled: Float32Array[] = [];
      for (const { size, pixels } of samples.batches) {
        context.signal.throwIfAborted();
        const answer = await session.run({ pixel_values: pixels, ...feeds(thresholds)(size) }, { outputs: [name] });
        pooled.push(answer[name]!.data as Float32Array);
      }
      const all = new Float32Array(pooled.reduce((sum, part) => sum + part.length, 0));
      let at = 0;
      for (const part of pooled) {
        all.set(part, at);
        at += part.length;
      }
      return all;
    },
    async dispose() {
      await Promise.all([whole, ...prefixes.values()].map((session) => session.dispose()));
    },
  };
}
