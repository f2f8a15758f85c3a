import { invalid } from '../errors/error.js';
import { causalSpecOf } from '../models/causal-lm.js';
import type { Checkpoint } from '../models/checkpoint.js';
import type { Bits } from '../models/quantisation/blocks.js';
import { quantisableMatrices } from '../models/quantisation/network.js';
import { estimate, type CurvatureContext, type KindEstimate } from './estimate.js';
import { estimators, type EstimatorKind, type Probing } from './estimators.js';
import type { Loss } from './losses.js';
import { moveGroups, quantisationMoves, type MatrixMove } from './matrix-moves.js';
import { outputsOf, type Network } from './network.js';

/** Widths that are scored, in the order of the columns. */
export const scoredWidths: readonly Bits[] = [8, 4];

/** The moves of every matrix of a language model that may be quantised, matrix by matrix, to 8 bits and to 4. Throws as `causalSpecOf`. */
export function bitMoves(checkpoint: Checkpoint, workDirectory: string): Promise<MatrixMove[]> {
  return quantisationMoves(checkpoint, quantisableMatrices(causalSpecOf(checkpoint)), scoredWidths, workDirectory);
}

/** Logits of a window up to which every one has its direction. */
const mostExact = 100;
/** Of a window: they are averaged over all of them. */
const usualProbes = 4;

/** How the bits of matrices are scored. Throws INVALID_ARGUMENT where a loss or an estimator cannot. */
export function bitsProbing(
  network: Network,
  { loss, estimator, probes }: { readonly loss: Loss; readonly estimator?: EstimatorKind; readonly probes?: number },
): { readonly kind: EstimatorKind; readonly probing: Probing } {
  if (network.logits.length === 1) throw invalid('units: bits are of language models alone');
  if (loss !== 'kl') throw invalid(`units: bits are scored by the loss kl alone, not ${loss}`);
  const logits = outputsOf(network);
  const { kind, probing } = estimators[estimator ?? (logits <= mostExact ? 'exact' : 'output-sketch')];
  if (kind === 'gate-signs') throw invalid('units: bits are scored by exact or output-sketch, not gate-signs');
  // However few the matrices are, every one has a derivative by every direction over logits.
  const problem = { loss, gates: Infinity, logits, probes: probes ?? usualProbes };
  return { kind, probing: probing(problem) };
}

export interface BitsOptions {
  readonly network: Network;
  readonly indices: readonly number[];
  readonly probing: Probing;
  readonly seed: number;
  readonly batch: number;
}

/**
 * The curvature of every move, by groups of matrices: each takes the forward part anew, and none more memory than a run may. Throws
 * CANCELLED.
 */
export async function estimateBits(
  moves: readonly MatrixMove[],
  options: BitsOptions,
  context: CurvatureContext,
): Promise<{ readonly estimate: KindEstimate; readonly rows: number }> {
  const { network, batch, probing, indices } = options;
  const groups = moveGroups(moves, batch * network.tokens);
  const each = probing.count * indices.length;
  const parts: KindEstimate[] = [];
  let rows = 0;
  for (const [at, group] of groups.entries()) {
    const progress: CurvatureContext['progress'] = (event) =>
      context.progress?.({ ...event, done: at * each + event.done, total: groups.length * each });
    const found = await estimate(
      { ...options, kinds: [], moves: group, loss: 'kl', interactions: [] },
      { ...context, progress },
    );
    parts.push(found.kinds.get('bits')!);
    rows = found.rows;
  }
  const joined = (list: (part: KindEstimate) => Float64Array) =>
    Float64Array.from(parts.flatMap((part) => [...list(part)]));
  return {
    rows,
    estimate: {
      rows: 1,
      gates: moves.length,
      gradient: joined(({ gradient }) => gradient),
      curvature: joined(({ curvature }) => curvature),
      standardError: parts[0]?.standardError && joined(({ standardError }) => standardError!),
      interactions: undefined,
    },
  };
}
