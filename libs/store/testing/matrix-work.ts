import { uniformInt } from 'pure-rand/distribution/uniformInt';
import { xoroshiro128plus } from 'pure-rand/generator/xoroshiro128plus';
import { invalid } from '../../errors/error.js';
import type { JobContext } from '../jobs/job-run.js';

/** A small computation in stages, each of which needs the one before, for tests of jobs: power iteration on a random matrix. */
export interface MatrixRequest {
  seed: number;
  size: number;
  steps: number;
}

export const MATRIX_STAGES = ['draw', 'iterate', 'plan'] as const;

/** The plan that a request leads to: the eigenvalue, and the indices of the eigenvector in order of magnitude. */
export interface MatrixPlan {
  eigenvalue: number;
  order: number[];
  digits: string;
}

/** Told of every step of the work, to hold or interrupt it there; the signal says when the work is to stop. */
export type Entered = (stage: string, step: number, signal: AbortSignal) => Promise<void> | void;

/**
 * Runs the computation.
 * @throws HeartwoodError INVALID_ARGUMENT for an empty matrix
 */
export async function matrixWork(
  request: MatrixRequest,
  context: JobContext,
  entered: Entered = () => undefined,
): Promise<MatrixPlan> {
  const { seed, size, steps } = request;
  if (size < 1) throw invalid(`size: expected at least 1, got ${size}`);
  const step = async (stage: string, done: number, total: number) => {
    context.signal.throwIfAborted();
    context.progress({ stage, done, total, unit: 'rows' });
    await entered(stage, done, context.signal);
    await new Promise((resolve) => setImmediate(resolve));
  };
  const matrix = await context.checkpoint('draw', async () => {
    const generator = xoroshiro128plus(seed);
    const values = new Float32Array(size * size);
    for (let row = 0; row < size; row++) {
      for (let column = 0; column <= row; column++) {
        const value = uniformInt(generator, -(2 ** 20), 2 ** 20) / 2 ** 20;
        values[row * size + column] = values[column * size + row] = value;
      }
      await step('draw', row + 1, size);
    }
    return values;
  });
  const { vector, eigenvalue } = await context.checkpoint('iterate', async () => {
    let vector = new Float32Array(size).fill(1);
    let eigenvalue = 0;
    for (let index = 0; index < steps; index++) {
      const next = vector.map((_, row) =>
        vector.reduce((sum, value, column) => sum + matrix[row * size + column]! * value, 0),
      );
      eigenvalue = Math.sqrt(next.reduce((sum, value) => sum + value * value, 0));
      vector = next.map((value) => value / eigenvalue);
      await step('iterate', index + 1, steps);
    }
    return { vector, eigenvalue };
  });
  return context.checkpoint('plan', async () => {
    const order = [...vector.keys()].sort((a, b) => Math.abs(vector[b]!) - Math.abs(vector[a]!) || a - b);
    await step('plan', 1, 1);
    return { eigenvalue, order, digits: Buffer.from(vector.buffer).toString('hex') };
  });
}
