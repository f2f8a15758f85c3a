/**
 * FLOPs of a stretch of a network between merging stages, at t tokens of t' in the stretch before:
 * constant + linear · t + quadratic · t² + cross · t' · t.
 */
export interface Segment {
  readonly constant: number;
  readonly linear: number;
  readonly quadratic: number;
  /** Absent: 0. */
  readonly cross?: number;
}

/**
 * FLOPs of one sample whose stages left these many tokens: the segments' sum. The first segment is before any stage, where nothing
 * varies: it counts as its constant alone. A stage without a count keeps what came before it.
 */
export function flopsAt(segments: readonly Segment[], kept: readonly number[], tokens: number): number {
  let before = tokens;
  let sum = 0;
  for (const [at, { constant, linear, quadratic, cross = 0 }] of segments.entries()) {
    const t = at === 0 ? tokens : (kept[at - 1] ?? before);
    sum += constant + linear * t + quadratic * t * t + cross * before * t;
    before = t;
  }
  return sum;
}
