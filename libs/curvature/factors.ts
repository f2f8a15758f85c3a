import { internal } from '../errors/error.js';
import { asFloat32, type Checkpoint } from '../models/checkpoint.js';
import { type GateKind, unitsOf } from '../models/gates.js';
import { loadGraph } from '../runtime/load-graph.js';
import type { TensorValue } from '../runtime/tensor.js';
import type { Samples } from './batches.js';
import { defaultBatch, directionsAtOnce } from './defaults.js';
import { filled, logitDirections, type CurvatureContext } from './estimate.js';
import { moveGroups, type MatrixMove } from './matrix-moves.js';
import { outputsOf, type Network } from './network.js';
import { networkOf } from './networks.js';
import { buildProbeGraph, names, probeSession, type UnitKind } from './probe-graph.js';
import { measureInShards, type OpenMeasurement } from './shards.js';
import { drawSigns } from './signs.js';

/**
 * A root of the KL Hessian over gates that all samples share: H ≈ UᵀU / K, interactions between kinds included. H is that of the mean
 * KL of a row of logits: by sample for a classifier, by position for a language model. To take the units of a set s, removed or given fewer
 * bits, costs ½ sᵀHs: columns of `bits` (0 → 1) have the opposite sign of their derivatives, since the others go from 1 to 0.
 */
export interface CurvatureFactors {
  /** Gates of each kind, in the order of the columns. */
  readonly columns: readonly { readonly kind: UnitKind; readonly gates: number }[];
  /** [K, Σ gates]. */
  readonly U: Float32Array;
  readonly K: number;
  /** Rows of U of each sample, one after another. */
  readonly directions: number;
}

export interface FactorOptions {
  readonly kinds: readonly GateKind[];
  /** Matrices that may get fewer bits; their columns, of the kind `bits`, follow those of the kinds. */
  readonly moves?: readonly MatrixMove[];
  readonly seed: number;
  /** Bytes that U may take. Default 256 MiB. */
  readonly bytes?: number;
  /** Random directions a sample, where not every logit has one of its own. Default: as many as make some 512 rows, 32 at most. */
  readonly probes?: number;
}

/** Logits of a sample up to which every one has its own direction. */
const mostLogits = 100;
/** More rows make what is chosen from them slower, and hardly better. */
const mostRows = 2048;
/** With random directions fewer rows than these are mostly noise: samples that are fewer have several directions each. */
const enoughRows = 512;
const mostProbes = 32;
/** For fewer samples than these, one random direction each of many samples says more. */
const fewSamples = 64;

/**
 * The rows u = √C Jᵀ R d of as many samples as fit: for each of the C logits d = e_c (then UᵀU / K is the mean of JᵀFJ over those
 * samples, exactly), or where logits are many for some random sign vectors (then it is so in expectation). Throws CANCELLED.
 */
export async function curvatureFactors(
  checkpoint: Checkpoint,
  samples: Samples,
  options: FactorOptions,
  context: CurvatureContext,
): Promise<CurvatureFactors> {
  const network = networkOf(await asFloat32(checkpoint, context.workDirectory), samples.dataset);
  const { kinds, seed, moves = [] } = options;
  const columns: { kind: UnitKind; gates: number }[] = kinds.map((kind) => ({
    kind,
    gates: unitsOf(network, kind).reduce((a, b) => a + b, 0),
  }));
  if (moves.length > 0) columns.push({ kind: 'bits', gates: moves.length });
  const width = columns.reduce((sum, { gates }) => sum + gates, 0);
  const { exact, directions, used } = effortFor(network, samples.indices.length, width, options);
  const indices = samples.indices.slice(0, used);
  const batch = Math.min(defaultBatch(network), indices.length);
  const U = new Float32Array(directions * indices.length * width);
  const passes = passesOf(kinds, moves, batch * network.tokens);
  let [rows, first] = [0, 0];
  for (const [at, pass] of passes.entries()) {
    const settled: SettledFactors = {
      kinds: pass.kinds,
      moves: pass.moves.map(({ matrix, bits }) => ({ matrix, bits })),
      batch,
      seed,
      exact,
      directions,
    };
    const total = passes.length * indices.length;
    const parts = measureInShards(
      {
        measurement: 'factors',
        options: settled,
        indices,
        batch,
        tokens: network.tokens,
        open: () => openFactors(network, settled, pass.moves, context),
      },
      {
        ...context,
        progress: (done) =>
          context.progress?.({ stage: 'score', done: at * indices.length + done, total, unit: 'samples' }),
      },
    );
    const columns = columnsOf(network, pass);
    // The signs of a sample are the same in every pass, so its rows go on where the pass before left them.
    rows = 0;
    for await (const { start, part } of parts) {
      for (let row = 0; row < part.U.length / columns; row++) {
        U.set(part.U.subarray(row * columns, (row + 1) * columns), (start * directions + row) * width + first);
      }
      rows += part.rows;
    }
    first += columns;
  }
  const K = directions * indices.length;
  // Σ uuᵀ over unit vectors is H of a sample, the mean over random ones is; either way the sum over samples becomes a mean over rows.
  const scale = Math.sqrt(exact ? K / rows : indices.length / rows);
  for (let i = 0; i < U.length; i++) U[i]! *= scale;
  return { columns, U, K, directions };
}

/** What one graph differentiates by. */
interface Pass {
  readonly kinds: readonly GateKind[];
  readonly moves: readonly MatrixMove[];
}

/** All kinds in one pass, with as many moves as a run holds; the others in passes of their own. */
function passesOf(kinds: readonly GateKind[], moves: readonly MatrixMove[], rows: number): Pass[] {
  const [group = [], ...more] = moveGroups(moves, rows);
  return [{ kinds, moves: group }, ...more.map((rest) => ({ kinds: [], moves: rest }))];
}

function columnsOf(network: Network, { kinds, moves }: Pass): number {
  return kinds.reduce((sum, kind) => sum + unitsOf(network, kind).reduce((a, b) => a + b, 0), moves.length);
}

/** Options of a pass as they are once the model and all samples are known: a shard needs no more. */
export interface SettledFactors {
  readonly kinds: readonly GateKind[];
  readonly moves: readonly Pick<MatrixMove, 'matrix' | 'bits'>[];
  readonly batch: number;
  readonly seed: number;
  readonly exact: boolean;
  /** Of each sample. */
  readonly directions: number;
}

/** Rows of U, before they are scaled. */
export interface FactorPart {
  /** [samples · directions, columns of the pass]. */
  readonly U: Float32Array;
  /** Rows of logits of the samples. */
  readonly rows: number;
}

/** A shard of a pass of `curvatureFactors`. @param moves those that the options name */
export async function openFactors(
  network: Network,
  { kinds, batch, seed, exact, directions }: SettledFactors,
  moves: readonly MatrixMove[],
  { runtime, workDirectory }: Pick<CurvatureContext, 'runtime' | 'workDirectory'>,
): Promise<OpenMeasurement<FactorPart>> {
  const width = columnsOf(network, { kinds, moves });
  const unrolled = Math.min(directionsAtOnce(network, batch), directions);
  const graph = buildProbeGraph(network, { kinds, moves, loss: 'kl', space: 'logits', unrolled, batch });
  const session = await loadGraph(runtime, graph, workDirectory, probeSession);
  const outputs = outputsOf(network);
  const gates: Record<string, TensorValue> = {};
  for (const kind of kinds) gates[kind] = filled([batch, columnsOf(network, { kinds: [kind], moves: [] })], 1);
  const directionOf = (indices: readonly number[], probe: number): TensorValue => {
    const given = logitDirections(network, batch);
    const data = given.data as Int8Array;
    indices.forEach((index, slot) => {
      if (probe >= directions) return;
      const row = data.subarray(slot * outputs, (slot + 1) * outputs);
      if (exact) row[probe] = 1;
      else drawSigns(row, seed, 0, index, probe);
    });
    return given;
  };
  return {
    dispose: () => session.dispose(),
    async measure(indices, { signal, progress }) {
      const U = new Float32Array(indices.length * directions * width);
      let rows = 0;
      for await (const part of network.batches(indices, { batch, labels: false, signal })) {
        for (let start = 0; start < directions; start += unrolled) {
          const feeds: Record<string, TensorValue> = { ...part.feeds, ...gates };
          for (let k = 0; k < unrolled; k++) feeds[names.direction(k)] = directionOf(part.indices, start + k);
          const products = await session.run(feeds, signal ? { signal } : {});
          for (let k = 0; k < unrolled && start + k < directions; k++) {
            let column = 0;
            for (const kind of [...kinds, ...(moves.length > 0 ? (['bits'] as const) : [])]) {
              const product = products[names.product(kind, k)]?.data;
              if (!(product instanceof Float32Array)) throw internal(`the graph gave no product ${k} of ${kind}`);
              const count = product.length / batch;
              const sign = kind === 'bits' ? -1 : 1;
              part.indices.forEach((_, slot) => {
                const to = ((part.start + slot) * directions + start + k) * width + column;
                for (let i = 0; i < count; i++) U[to + i] = sign * product[slot * count + i]!;
              });
              column += count;
            }
          }
        }
        rows += part.rows;
        progress?.(part.start + part.indices.length);
      }
      return { U, rows };
    },
  };
}

/** How many samples are used, and how many directions each. */
function effortFor(
  network: Network,
  samples: number,
  width: number,
  { bytes = 256 * 2 ** 20, probes }: FactorOptions,
): { exact: boolean; directions: number; used: number } {
  const logits = outputsOf(network);
  const rows = Math.max(1, Math.min(mostRows, Math.floor(bytes / (4 * width))));
  if (logits <= mostLogits && logits * fewSamples <= rows) {
    return { exact: true, directions: logits, used: Math.min(samples, Math.floor(rows / logits)) };
  }
  const used = Math.min(samples, rows);
  const wanted = probes ?? Math.min(mostProbes, Math.ceil(enoughRows / used));
  return { exact: false, directions: Math.max(1, Math.min(wanted, Math.floor(rows / used))), used };
}
