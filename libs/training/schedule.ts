/** Linear warm-up, then half a cosine down to a floor (Loshchilov & Hutter 2017, "SGDR", one cycle). */
export interface Schedule {
  readonly peak: number;
  readonly warmupSteps: number;
  /** The last learning rate, as a fraction of the peak. */
  readonly floor: number;
}

/**
 * The learning rate of step `step` (from 0), where `done` (0 … 1) is the share of the work that lies behind it: of the steps, or
 * of their cost where steps differ.
 */
export function learningRate({ peak, warmupSteps, floor }: Schedule, step: number, done: number): number {
  const warm = warmupSteps > 0 ? Math.min(1, (step + 1) / warmupSteps) : 1;
  return peak * warm * (floor + (1 - floor) * 0.5 * (1 + Math.cos(Math.PI * Math.min(1, done))));
}
