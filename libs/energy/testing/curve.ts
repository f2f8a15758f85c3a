/** A power that swings: P(t) = mean + swing · sin(2π t / period + phase), watts and milliseconds. */
export interface Curve {
  readonly mean: number;
  readonly swing: number;
  readonly periodMs: number;
  readonly phase: number;
}

export const wattsAt = ({ mean, swing, periodMs, phase }: Curve, ms: number): number =>
  mean + swing * Math.sin((2 * Math.PI * ms) / periodMs + phase);

/** ∫ P dt from one time to another: joules. */
export function joulesOf({ mean, swing, periodMs, phase }: Curve, from: number, to: number): number {
  const angle = (ms: number) => (2 * Math.PI * ms) / periodMs + phase;
  const waves = (swing * periodMs * (Math.cos(angle(from)) - Math.cos(angle(to)))) / (2 * Math.PI);
  return (mean * (to - from) + waves) / 1000;
}
