import { invalid } from '../../errors/error.js';
import { topEigenpairs } from './top-eigenpairs.js';

export interface Metric {
  /** [D, r], row major: tokens are compared as y = x W, for |y_i − y_j|² ≈ (x_i − x_j)ᵀ M (x_i − x_j). */
  readonly W: Float32Array;
  /** The share of the trace of M that the r directions hold, 0 … 1. */
  readonly share: number;
}

/**
 * The metric in which tokens are compared: W = V_r √Λ_r of the greatest r eigenpairs of M, the mean Fisher matrix of the residual
 * vectors at a stage.
 * @param M symmetric positive semidefinite, [D, D]
 * @param r columns of W, 1 … D
 * @throws HeartwoodError INVALID_ARGUMENT when M is not square, not symmetric or not finite, or r is out of range
 */
export function metricOf(M: Float64Array, r: number, seed = 0): Metric {
  const D = Math.round(Math.sqrt(M.length));
  if (D * D !== M.length) throw invalid(`a metric has ${M.length} elements, expected a square matrix`);
  if (!Number.isInteger(r) || r < 1 || r > D) throw invalid(`the rank of a metric is ${r}, expected 1 … ${D}`);
  const trace = checked(M, D);
  const W = new Float32Array(D * r);
  if (trace === 0) return { W, share: 1 };
  const { values, vectors } = topEigenpairs(M, D, r, seed);
  let held = 0;
  for (let j = 0; j < r; j++) {
    const value = Math.max(0, values[j]!);
    const vector = vectors.subarray(j * D, (j + 1) * D);
    held += value;
    const factor = signOf(vector) * Math.sqrt(value);
    for (let i = 0; i < D; i++) W[i * r + j] = factor * vector[i]!;
  }
  return { W, share: Math.min(1, held / trace) };
}

/** An eigenvector is known up to its sign: its greatest element in size is made positive. */
function signOf(vector: Float64Array): number {
  let greatest = 0;
  for (const value of vector) if (Math.abs(value) > Math.abs(greatest)) greatest = value;
  return greatest < 0 ? -1 : 1;
}

/** The trace of a matrix that is finite, symmetric (to rounding) and has no negative diagonal. */
function checked(M: Float64Array, D: number): number {
  let trace = 0;
  for (let i = 0; i < D; i++) {
    const own = M[i * D + i]!;
    if (!(own >= 0 && own < Infinity))
      throw invalid(`a metric has ${own} on its diagonal, expected a number of at least 0`);
    trace += own;
  }
  for (let i = 0; i < D; i++) {
    for (let j = 0; j < i; j++) {
      const gap = Math.abs(M[i * D + j]! - M[j * D + i]!);
      if (!(gap <= 1e-6 * trace)) throw invalid(`a metric is not symmetric at (${i}, ${j})`);
    }
  }
  return trace;
}
