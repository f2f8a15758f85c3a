/**
 * What a queue does to latency. For calls that come independently of each other and take nearly equal time (M/D/1) the mean wait is
 * ρ s / (2 (1 − ρ)), and its tail is exponential about it (Kingman's heavy-traffic limit): P(wait > t) ≈ ρ exp(−t / (s / (2 (1 − ρ)))),
 * hence the 95th percentile of the wait is s / (2 (1 − ρ)) · ln(20 ρ), where ρ is above 0.05.
 */
export interface Load {
  /** Calls that come, per millisecond. */
  readonly rate: number;
  /** Share of the worker's time that others take. */
  readonly others: number;
}

export interface CallCost {
  readonly workMs: number;
  readonly runMs: number;
}

/** The share of the worker's time that is asked for; from 1 on the queue grows without end. */
export function utilisation({ rate, others }: Load, { workMs }: CallCost): number {
  return others + rate * workMs;
}

/** The 95th percentile of the latency that such a load comes to, milliseconds; Infinity where the queue would grow without end. */
export function foretoldP95(load: Load, cost: CallCost): number {
  const busy = utilisation(load, cost);
  if (busy >= 1) return Infinity;
  const wait = busy > 0.05 ? (cost.workMs / (2 * (1 - busy))) * Math.log(20 * busy) : 0;
  return cost.runMs + wait;
}
