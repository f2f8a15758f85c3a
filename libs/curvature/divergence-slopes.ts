import { zeros } from '../autodiff/algebra.js';
import { pullback } from '../autodiff/pullback.js';
import { internal, invalid } from '../errors/error.js';
import { asFloat32, type Checkpoint } from '../models/checkpoint.js';
import { unitsOf, type GateKind } from '../models/gates.js';
import type { Graph } from '../onnx/ir.js';
import { logSoftmax, mul, reduceSum, softmax, sub } from '../onnx/ops/index.js';
import { loadGraph } from '../runtime/load-graph.js';
import type { TensorValue } from '../runtime/tensor.js';
import type { Samples } from './batches.js';
import { defaultBatch } from './defaults.js';
import { filled, type CurvatureContext } from './estimate.js';
import type { Network } from './network.js';
import { networkOf } from './networks.js';
import { names, probeSession } from './probe-graph.js';
import { measureInShards, type OpenMeasurement } from './shards.js';

/** The mean KL of a row of logits where some units are gone, and its slopes there. */
export interface DivergenceSlopes {
  /** KL(unpruned ‖ pruned), nats a row. */
  readonly loss: number;
  /** ∂KL/∂m of every gate, gates of each kind after those of the one before; of a unit that is gone, what bringing it back would change. */
  readonly slopes: Float64Array;
  /** Of the slopes, from their spread over the samples. */
  readonly standardError: Float64Array;
}

export interface SlopesOptions {
  readonly kinds: readonly GateKind[];
  /** Columns (as in `slopes`) whose gates are 0. */
  readonly removed: readonly number[];
}

/**
 * First order at a pruned point: with q the answer there and p the unpruned one, ∂KL/∂z = q − p in closed form, and one pullback of it gives all
 * slopes. At s = Σ e_j over what is gone, −∂KL/∂m_i = (H s)_i + higher orders: the interactions of unit i with everything that is gone, with no
 * error of random directions. Rows are those of logits: one an image, one a position of text. Throws INVALID_ARGUMENT, CANCELLED.
 */
export async function divergenceSlopes(
  checkpoint: Checkpoint,
  samples: Samples,
  { kinds, removed }: SlopesOptions,
  context: CurvatureContext,
): Promise<DivergenceSlopes> {
  const network = networkOf(await asFloat32(checkpoint, context.workDirectory), samples.dataset);
  const { indices } = samples;
  const batch = Math.min(defaultBatch(network), indices.length);
  const settled: SettledDivergence = { kinds, removed, batch };
  const total = indices.length;
  const parts = measureInShards(
    {
      measurement: 'divergence-slopes',
      options: settled,
      indices,
      batch,
      tokens: network.tokens,
      open: () => openDivergenceSlopes(network, settled, context),
    },
    { ...context, progress: (done) => context.progress?.({ stage: 'score', done, total, unit: 'samples' }) },
  );
  let sum: DivergencePart | undefined;
  for await (const { part } of parts) {
    if (!sum) sum = { ...part, slopes: part.slopes.slice(), squares: part.squares.slice() };
    else {
      const { slopes, squares, loss, rows }: DivergencePart = sum;
      part.slopes.forEach((slope, i) => (slopes[i]! += slope));
      part.squares.forEach((square, i) => (squares[i]! += square));
      sum = { slopes, squares, loss: loss + part.loss, rows: rows + part.rows };
    }
  }
  if (!sum) throw invalid('slopes of no samples');
  const { loss, slopes, squares, rows } = sum;
  return {
    loss: loss / rows,
    slopes: slopes.map((slope) => slope / rows),
    // Samples are independent of each other, rows of one are not.
    standardError: squares.map(
      (square, i) => Math.sqrt((Math.max(0, square - slopes[i]! ** 2 / total) * total) / Math.max(1, total - 1)) / rows,
    ),
  };
}

/** Options as they are once the model and all samples are known: a shard needs no more. */
export interface SettledDivergence extends SlopesOptions {
  readonly batch: number;
}

/** Sums over the samples of a shard. */
export interface DivergencePart {
  readonly loss: number;
  readonly slopes: Float64Array;
  /** Of the slopes of each sample. */
  readonly squares: Float64Array;
  /** Rows of logits. */
  readonly rows: number;
}

/** A shard of `divergenceSlopes`. */
export async function openDivergenceSlopes(
  network: Network,
  { kinds, removed, batch }: SettledDivergence,
  { runtime, workDirectory }: Pick<CurvatureContext, 'runtime' | 'workDirectory'>,
): Promise<OpenMeasurement<DivergencePart>> {
  const counts = kinds.map((kind) => unitsOf(network, kind).reduce((a, b) => a + b, 0));
  const whole = gatesAt(kinds, counts, [], batch);
  const pruned = gatesAt(kinds, counts, removed, batch);
  const unpruned = await loadGraph(runtime, answerGraph(network, kinds, batch), workDirectory);
  const session = await loadGraph(runtime, slopesGraph(network, kinds, batch), workDirectory, probeSession).catch(
    async (error: unknown) => {
      await unpruned.dispose();
      throw error;
    },
  );
  return {
    async dispose() {
      await Promise.all([unpruned.dispose(), session.dispose()]);
    },
    async measure(indices, { signal, progress }) {
      const options = signal ? { signal } : {};
      const slopes = new Float64Array(counts.reduce((a, b) => a + b, 0));
      const squares = new Float64Array(slopes.length);
      let [loss, rows] = [0, 0];
      for await (const part of network.batches(indices, { batch, labels: false, signal })) {
        const { logits } = await unpruned.run({ ...part.feeds, ...whole }, options);
        const outputs = await session.run({ ...part.feeds, ...pruned, [reference]: logits! }, options);
        // What fills the batch up does not count.
        const used = part.indices.length;
        for (const kl of floats(outputs[divergence], divergence).subarray(0, used)) loss += kl;
        let first = 0;
        kinds.forEach((kind, at) => {
          const count = counts[at]!;
          const found = floats(outputs[names.gradient(kind)], kind);
          for (let i = 0; i < used * count; i++) {
            slopes[first + (i % count)]! += found[i]!;
            squares[first + (i % count)]! += found[i]! ** 2;
          }
          first += count;
        });
        rows += part.rows;
        progress?.(part.start + used);
      }
      return { loss, slopes, squares, rows };
    },
  };
}

const [reference, divergence] = ['reference', 'divergence'];

function answerGraph(network: Network, kinds: readonly GateKind[], batch: number): Graph {
  const { g, logits } = network.build({ batch, gates: kinds, name: 'answer' });
  return g.build([g.named('logits', logits)]);
}

/** Inputs: those of the network, the gates, and the unpruned logits; KL by sample [batch] and the slopes [batch, gates] come out. */
function slopesGraph(network: Network, kinds: readonly GateKind[], batch: number): Graph {
  const { g, gates, logits } = network.build({ batch, gates: kinds, name: 'divergence-slopes' });
  const given = g.input(reference, g.float, logits.shape);
  const p = softmax(g, given);
  // KL = Σ p (log p − log q);  ∂KL/∂z = q − p
  const apart = mul(g, p, sub(g, logSoftmax(g, given), logSoftmax(g, logits)));
  const axes = logits.shape.slice(1).map((_, at) => at + 1);
  const wrt = kinds.map((kind) => gates.get(kind)!.value);
  const slopes = pullback(g, [logits], [sub(g, softmax(g, logits), p)], wrt);
  return g.build([
    g.named(divergence, reduceSum(g, apart, axes)),
    ...kinds.map((kind, at) => g.named(names.gradient(kind), slopes[at] ?? zeros(g, wrt[at]!))),
  ]);
}

/** 1, and 0 on the columns that are gone, for every sample of a batch. */
function gatesAt(
  kinds: readonly GateKind[],
  counts: readonly number[],
  removed: readonly number[],
  batch: number,
): Record<string, TensorValue> {
  let first = 0;
  const found: Record<string, TensorValue> = {};
  kinds.forEach((kind, at) => {
    const count = counts[at]!;
    const tensor = filled([batch, count], 1);
    const values = tensor.data as Float32Array;
    for (const column of removed) {
      const unit = column - first;
      if (unit < 0 || unit >= count) continue;
      for (let sample = 0; sample < batch; sample++) values[sample * count + unit] = 0;
    }
    found[kind] = tensor;
    first += count;
  });
  return found;
}

function floats(tensor: TensorValue | undefined, name: string): Float32Array {
  if (tensor?.data instanceof Float32Array) return tensor.data;
  throw internal(`the graph gave no ${name}`);
}
