import { basename } from 'node:path';
import type { Dataset } from '../data/dataset.js';
import type { TextDataset } from '../data/text/dataset.js';
import { invalid } from '../errors/error.js';
import { asFloat32, type Checkpoint } from '../models/checkpoint.js';
import { GATE_KINDS, type GateKind, isPerSample, unitsOf } from '../models/gates.js';
import { bitMoves, bitsProbing, estimateBits, scoredWidths } from './bits.js';
import { defaultBatch, defaultEstimator } from './defaults.js';
import { estimate, type CurvatureContext, type KindEstimate } from './estimate.js';
import { estimators, type EstimatorKind, type Probing } from './estimators.js';
import type { Loss } from './losses.js';
import { outputsOf, type Network } from './network.js';
import { networkOf } from './networks.js';
import { UNIT_KINDS, type UnitKind } from './probe-graph.js';
import type { EstimatorUsed, Scores, UnitScores } from './scores.js';

export interface ScoreOptions {
  readonly checkpoint: Checkpoint;
  readonly dataset: Dataset | TextDataset;
  /** Which samples, in the order of the rows of the result. */
  readonly indices: readonly number[];
  /** `bits` (what quantising each matrix costs) of language models alone. */
  readonly units: readonly UnitKind[];
  /** Default kl. */
  readonly loss?: Loss;
  /** Default: the best measured for each kind of unit (`defaults.ts`). */
  readonly estimator?: EstimatorKind;
  /** Random directions a sample; `exact` takes as many as it needs. */
  readonly probes?: number;
  /** Default 0. */
  readonly seed?: number;
  /** Also the full Hessian, for heads and neurons. */
  readonly interactions?: boolean;
  /** Samples of a run. Default: by the number of tokens. */
  readonly batch?: number;
}

/** Kinds that one estimator serves in the same runs. */
interface Group {
  readonly kinds: GateKind[];
  readonly probing: Probing;
  readonly used: EstimatorUsed;
}

/**
 * Gradient and curvature of the loss by the gates of a model, over samples of a dataset. Memory is bounded by the batch, the
 * model and the result. Repeatable bit for bit. What is drawn depends neither on the batch nor on the other samples and kinds, only
 * the rounding of the runtime's kernels does (by 1e-7 or so).
 * Throws INVALID_ARGUMENT (no samples, no labels for cross-entropy, an estimator that does not know the loss, data that do not fit
 * the model), CANCELLED.
 */
export async function scoreCheckpoint(options: ScoreOptions, context: CurvatureContext): Promise<Scores> {
  const { dataset, indices, loss = 'kl', seed = 0, interactions = false } = options;
  if (indices.length === 0) throw invalid(`${dataset.name}: no samples, expected at least one`);
  const checkpoint = await asFloat32(options.checkpoint, context.workDirectory);
  const network = networkOf(checkpoint, dataset);
  const kinds = GATE_KINDS.filter((kind) => options.units.includes(kind));
  const withBits = options.units.includes('bits');
  if (kinds.length === 0 && !withBits) throw invalid(`units: none, expected some of ${UNIT_KINDS.join(', ')}`);
  const bits = withBits ? bitsProbing(network, { ...options, loss }) : undefined;
  const groups = groupsOf(network, kinds, { ...options, loss, seed });
  const batch = Math.min(options.batch ?? defaultBatch(network), indices.length);
  const units: Scores['units'] = {};
  const first = groups[0]?.used ?? { kind: bits!.kind, probes: bits!.probing.count, seed };
  const total = groups.reduce((sum, { probing }) => sum + probing.count * indices.length, 0);
  let [done, rows] = [0, 0];
  for (const { kinds, probing, used } of groups) {
    const estimates = await estimate(
      {
        network,
        indices,
        kinds,
        loss,
        probing,
        seed,
        interactions: interactions ? kinds.filter((kind) => !isPerSample(kind)) : [],
        batch,
      },
      { ...context, progress: (event) => context.progress?.({ ...event, done: done + event.done, total }) },
    );
    done += probing.count * indices.length;
    rows = estimates.rows;
    for (const kind of kinds) {
      const scores = unitScores(kind, shapeOf(network, kind, indices.length), estimates.kinds.get(kind)!);
      units[kind] = sameEstimator(used, first) ? scores : { ...scores, estimator: used };
    }
  }
  if (bits) {
    const moves = await bitMoves(checkpoint, context.workDirectory);
    const found = await estimateBits(moves, { network, indices, probing: bits.probing, seed, batch }, context);
    rows = found.rows;
    const used: EstimatorUsed = { kind: bits.kind, probes: bits.probing.count, seed };
    const matrices = [...new Set(moves.map(({ matrix }) => matrix))];
    units.bits = {
      ...unitScores('bits', [matrices.length, scoredWidths.length], found.estimate),
      matrices,
      widths: [...scoredWidths],
      ...(sameEstimator(used, first) ? {} : { estimator: used }),
    };
  }
  return {
    model: basename(checkpoint.directory),
    checkpointDigest: checkpoint.digest,
    data: dataset.name,
    dataDigest: dataset.digest,
    loss,
    samples: indices.length,
    ...(network.logits.length > 1 ? { positions: rows } : {}),
    indices: [...indices],
    estimator: first,
    units,
  };
}

/** Directions over logits reach the gates of all kinds in one pullback; those over gates are of one kind. */
function groupsOf(
  network: Network,
  kinds: readonly GateKind[],
  options: ScoreOptions & { readonly loss: Loss; readonly seed: number },
): Group[] {
  const { loss, seed } = options;
  const groups: Group[] = [];
  for (const kind of kinds) {
    const gates = unitsOf(network, kind).reduce((a, b) => a + b, 0);
    const usual = defaultEstimator(kind, loss, network);
    const estimator = estimators[options.estimator ?? usual.kind];
    const probing = estimator.probing({
      loss,
      gates,
      logits: outputsOf(network),
      probes: options.probes ?? usual.probes,
    });
    const used: EstimatorUsed = { kind: estimator.kind, probes: probing.count, seed };
    const joined = groups.find((group) => probing.space === 'logits' && sameEstimator(group.used, used));
    if (joined && joined.probing.space === 'logits') joined.kinds.push(kind);
    else groups.push({ kinds: [kind], probing, used });
  }
  return groups;
}

function sameEstimator(a: EstimatorUsed, b: EstimatorUsed): boolean {
  return a.kind === b.kind && a.probes === b.probes && a.seed === b.seed;
}

/** [layers, units], or [samples, layers, tokens]. Throws INVALID_ARGUMENT where blocks differ, since that is no rectangle. */
function shapeOf(network: Network, kind: GateKind, samples: number): number[] {
  const units = unitsOf(network, kind);
  if (units.some((count) => count !== units[0])) {
    throw invalid(
      `${kind}: blocks have ${units.join(', ')} of them, expected the same number in each (a model not pruned yet)`,
    );
  }
  const layers = [units.length, units[0]!];
  return isPerSample(kind) ? [samples, ...layers] : layers;
}

function finite(kind: UnitKind, values: Float64Array): number[] {
  const wrong = values.find((value) => !Number.isFinite(value));
  if (wrong !== undefined)
    throw invalid(`${kind}: the scores hold ${wrong}, expected a model whose answers are finite`);
  return [...values];
}

function unitScores(
  kind: UnitKind,
  shape: number[],
  { gates, gradient, curvature, standardError, interactions }: KindEstimate,
): UnitScores {
  return {
    shape,
    gradient: finite(kind, gradient),
    curvature: finite(kind, curvature),
    ...(standardError ? { standardError: [...standardError] } : {}),
    ...(interactions
      ? {
          interactions: Array.from({ length: gates }, (_, i) => [...interactions.subarray(i * gates, (i + 1) * gates)]),
        }
      : {}),
  };
}
