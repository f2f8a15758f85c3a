/** Linear warm-up, then half a cosine down to a floor (Loshchilov & Hutter 2017, "SGDR", one cycle), or a part of it and a line. */
export interface Schedule {
  readonly peak: number;
  readonly warmupSteps: number;
  /** The last learning rate, as a fraction of the peak. */
  readonly floor: number;
  /** How many times as long as the run the cosine is. Default 1: it ends with the run. */
  readonly span?: number;
  /**
   * The share of the run, at its end, in which the rate goes from where the cosine is to the floor in a line (Hägele et al. 2024, "Scaling laws
   * and compute-optimal training beyond fixed training durations"). Default 0.
   */
  readonly cooldown?: number;
}

/**
 * The learning rate of step `step` (from 0), where `done` (0 … 1) is the share of the work that lies behind it: of the steps, or
 * of their cost where steps differ.
 */
export function learningRate(
  { peak, warmupSteps, floor, span = 1, cooldown = 0 }: Schedule,
  step: number,
  done: number,
): number {
  const warm = warmupSteps > 0 ? Math.min(1, (step + 1) / warmupSteps) : 1;
  const cosine = (at: number) => floor + (1 - floor) * 0.5 * (1 + Math.cos(Math.PI * Math.min(1, at / span)));
  const turn = 1 - cooldown;
  const share = done <= turn ? cosine(done) : floor + ((cosine(turn) - floor) * (1 - Math.min(1, done))) / cooldown;
  return peak * warm * share;
}
