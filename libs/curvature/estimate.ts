import { internal } from '../errors/error.js';
import { GATE_KINDS, type GateKind, isPerSample, unitsOf } from '../models/gates.js';
import type { MatrixMove } from './matrix-moves.js';
import { loadGraph } from '../runtime/load-graph.js';
import type { Runtime, Session } from '../runtime/runtime.js';
import type { TensorValue } from '../runtime/tensor.js';
import { directionsAtOnce } from './defaults.js';
import type { Probing } from './estimators.js';
import { Interactions } from './interactions.js';
import { losses, type Loss } from './losses.js';
import { Moments, type GateEstimate } from './moments.js';
import { outputsOf, type Network, type SampleBatch } from './network.js';
import { buildProbeGraph, names, probeSession, type UnitKind } from './probe-graph.js';
import type { Sharing } from './shards.js';
import { drawSigns } from './signs.js';

/** What curvature work needs of its surroundings. */
export interface CurvatureContext {
  readonly runtime: Runtime;
  /** Where graphs lie while they run, on the file system of the weights if links to them are to be free. */
  readonly workDirectory: string;
  /** `done` of `total` directions, counted once for every sample. */
  readonly progress?: ((event: { stage: string; done: number; total: number; unit: string }) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
  /** How sums over samples that a pruning job needs are divided; `estimate` itself takes one sum. */
  readonly shards?: Sharing | undefined;
}

export interface EstimateOptions {
  readonly network: Network;
  /** Which samples of the network's data, in the order of the rows of the result. */
  readonly indices: readonly number[];
  /** More than one only for directions over logits. */
  readonly kinds: readonly GateKind[];
  readonly loss: Loss;
  readonly probing: Probing;
  readonly seed: number;
  /** Units of the kind `bits`, for directions over logits. */
  readonly moves?: readonly MatrixMove[];
  /** Kinds whose full Hessian is wanted. */
  readonly interactions: readonly UnitKind[];
  /** Samples of a run. */
  readonly batch: number;
  /** Directions of a run share its forward part; the more, the more memory. Default: by the logits' size. */
  readonly unrolled?: number;
}

export interface KindEstimate extends GateEstimate {
  /** H summed over samples [gates, gates]; undefined unless asked for. */
  readonly interactions: Float64Array | undefined;
}

export interface Estimates {
  readonly kinds: ReadonlyMap<UnitKind, KindEstimate>;
  /** Rows of logits that had a part in the loss, over all samples. */
  readonly rows: number;
}

/**
 * Gradient and curvature of the gates of some kinds by one estimator, batch by batch. What a sample gets depends on its own index,
 * the seed and the probe alone, up to the rounding of the runtime's kernels, which depends on the place in a batch. Throws INVALID_ARGUMENT, CANCELLED.
 */
export async function estimate(options: EstimateOptions, context: CurvatureContext): Promise<Estimates> {
  const { network, indices, kinds, loss, probing, batch, moves = [] } = options;
  const gates = new Map(kinds.map((kind) => [kind, unitsOf(network, kind).reduce((a, b) => a + b, 0)]));
  const runs = Math.ceil(probing.count / (options.unrolled ?? directionsAtOnce(network, batch)));
  const unrolled = Math.ceil(probing.count / runs);
  const graph = buildProbeGraph(network, { kinds, moves, loss, space: probing.space, unrolled, batch });
  const session = await loadGraph(context.runtime, graph, context.workDirectory, probeSession);
  const collectors: Collector[] = [];
  try {
    for (const [kind, n] of gates) collectors.push(await openCollector(options, kind, n, context.runtime));
    if (moves.length > 0) collectors.push(await openCollector(options, 'bits', moves.length, context.runtime));
    const ones = Object.fromEntries([...gates].map(([kind, n]) => [kind, filled([batch, n], 1)]));
    const total = indices.length * probing.count;
    let [done, rows] = [0, 0];
    const reading = { batch, labels: losses[loss].needsLabels, signal: context.signal };
    for await (const part of network.batches(indices, reading)) {
      for (let run = 0; run < runs; run++) {
        const first = run * unrolled;
        const used = Math.min(unrolled, probing.count - first);
        const directions = Array.from({ length: unrolled }, (_, k) =>
          directionsOf(options, part, k < used ? first + k : undefined, gates),
        );
        const outputs = await runOnce(session, part, ones, directions, context.signal);
        await collect(collectors, part, outputs, directions.slice(0, used), run === 0);
        done += used * part.indices.length;
        context.progress?.({ stage: 'score', done, total, unit: 'directions' });
      }
      for (const { moments } of collectors) moments.endBatch(part.start, part.indices.length);
      rows += part.rows;
    }
    const results = new Map<UnitKind, KindEstimate>();
    for (const { kind, moments, interactions } of collectors) {
      results.set(kind, { ...moments.result(), interactions: await interactions?.result() });
    }
    return { kinds: results, rows };
  } finally {
    await session.dispose();
    for (const { interactions } of collectors) await interactions?.dispose();
  }
}

interface Collector {
  readonly kind: UnitKind;
  readonly space: Probing['space'];
  readonly moments: Moments;
  readonly interactions: Interactions | undefined;
}

async function openCollector(
  { indices, probing, batch, interactions }: EstimateOptions,
  kind: UnitKind,
  gates: number,
  runtime: Runtime,
): Promise<Collector> {
  return {
    kind,
    space: probing.space,
    moments: new Moments(gates, kind !== 'bits' && isPerSample(kind) ? indices.length : undefined, probing, batch),
    interactions: interactions.includes(kind) ? await Interactions.open(runtime, kind, gates, probing) : undefined,
  };
}

function runOnce(
  session: Session,
  part: SampleBatch,
  ones: Readonly<Record<string, TensorValue>>,
  directions: readonly TensorValue[],
  signal: AbortSignal | undefined,
): Promise<Record<string, TensorValue>> {
  const feeds: Record<string, TensorValue> = { ...part.feeds, ...ones };
  directions.forEach((direction, k) => (feeds[names.direction(k)] = direction));
  return session.run(feeds, signal ? { signal } : {});
}

async function collect(
  collectors: readonly Collector[],
  part: SampleBatch,
  outputs: Readonly<Record<string, TensorValue>>,
  directions: readonly TensorValue[],
  withGradient: boolean,
): Promise<void> {
  const count = part.indices.length;
  for (const { kind, space, moments, interactions } of collectors) {
    const gradient = kind === 'bits' ? undefined : outputs[names.gradient(kind)];
    if (gradient && withGradient) moments.addGradient(floats(gradient), part.start, count);
    for (const [k, direction] of directions.entries()) {
      const product = outputs[names.product(kind, k)];
      if (!product) throw internal(`the graph gave no product ${k} of ${kind}`);
      const right = floats(product);
      const left = space === 'logits' ? right : floats(direction);
      moments.addProbe(left, right);
      await interactions?.addProbe(left, right, count);
    }
  }
}

/** The direction of one probe for every sample of a batch, [batch, gates] or of the logits' shape; zero where there is no probe. */
function directionsOf(
  { network, probing, seed, kinds, batch }: EstimateOptions,
  part: SampleBatch,
  probe: number | undefined,
  gates: ReadonlyMap<GateKind, number>,
): TensorValue {
  const overLogits = probing.space === 'logits';
  const width = overLogits ? outputsOf(network) : gates.get(kinds[0]!)!;
  // Signs over logits do not depend on which kinds were asked for, those over gates are of one kind.
  const stream = overLogits ? 0 : 1 + GATE_KINDS.indexOf(kinds[0]!);
  const direction = overLogits ? logitDirections(network, batch) : filled([batch, width], 0);
  const data = direction.data as Float32Array | Int8Array;
  if (probe === undefined) return direction;
  for (let slot = 0; slot < batch; slot++) {
    const row = data.subarray(slot * width, (slot + 1) * width);
    const index = part.indices[slot];
    if (probing.directions === 'units') row[probe] = 1;
    else if (index !== undefined) drawSigns(row, seed, stream, index, probe);
  }
  return direction;
}

/** Zeros in the shape of a batch's logits, as a direction over them. */
export function logitDirections(network: Network, batch: number): TensorValue {
  return { type: 'int8', dims: [batch, ...network.logits], data: new Int8Array(batch * outputsOf(network)) };
}

/** A tensor of one number. */
export function filled(dims: readonly number[], value: number): TensorValue {
  return { type: 'float32', dims, data: new Float32Array(dims.reduce((a, b) => a * b, 1)).fill(value) };
}

function floats({ data }: TensorValue): Float32Array {
  if (data instanceof Float32Array) return data;
  throw internal('the graph computes in float32');
}
