import type { Probing } from './estimators.js';

/** What was estimated for the gates of one kind, flat; `standardError` is undefined where there is no error of sampling. */
export interface GateEstimate {
  /** One row of gates that holds for all samples together (their sum), or a row for each. */
  readonly rows: number;
  readonly gates: number;
  /** ∂L/∂m, [rows, gates]. */
  readonly gradient: Float64Array;
  /** ∂²L/∂m², [rows, gates]. */
  readonly curvature: Float64Array;
  /** Of the curvature, over probes: the deviation that it would have under other seeds. [rows, gates] */
  readonly standardError: Float64Array | undefined;
}

/** Adds up what the probes give, sample by sample, in double precision. */
export class Moments {
  private readonly gradient: Float64Array;
  private readonly curvature: Float64Array;
  private readonly variance: Float64Array;
  private readonly sum: Float64Array;
  private readonly squares: Float64Array;

  /** `perSample` is the number of samples where each has a row of its own, undefined where they are summed. */
  constructor(
    readonly gates: number,
    private readonly perSample: number | undefined,
    private readonly probing: Probing,
    private readonly batch: number,
  ) {
    const size = (perSample ?? 1) * gates;
    this.gradient = new Float64Array(size);
    this.curvature = new Float64Array(size);
    this.variance = new Float64Array(probing.directions === 'signs' ? size : 0);
    this.sum = new Float64Array(batch * gates);
    this.squares = new Float64Array(probing.directions === 'signs' ? batch * gates : 0);
  }

  /** The gradient of a batch, [batch, gates], of which `count` samples count; `start` is the position of the first. */
  addGradient(values: Float32Array, start: number, count: number): void {
    for (let slot = 0; slot < count; slot++) {
      const row = this.rowOf(start + slot);
      for (let i = 0; i < this.gates; i++) this.gradient[row + i]! += values[slot * this.gates + i]!;
    }
  }

  /** left ∘ right of one probe for all samples of a batch, [batch, gates] each. */
  addProbe(left: Float32Array, right: Float32Array): void {
    const random = this.squares.length > 0;
    for (let i = 0; i < this.sum.length; i++) {
      const x = left[i]! * right[i]!;
      this.sum[i]! += x;
      if (random) this.squares[i]! += x * x;
    }
  }

  /** Closes a batch after its last probe. */
  endBatch(start: number, count: number): void {
    const { gates, probing } = this;
    const k = probing.directions === 'signs' ? probing.count : 1;
    for (let slot = 0; slot < count; slot++) {
      const row = this.rowOf(start + slot);
      for (let i = 0; i < gates; i++) {
        const at = slot * gates + i;
        const mean = this.sum[at]! / k;
        this.curvature[row + i]! += mean;
        // Samples draw their signs independently, so the variances of their means, s² / K each, add up.
        if (k > 1) this.variance[row + i]! += Math.max(0, this.squares[at]! - k * mean * mean) / (k - 1) / k;
      }
    }
    this.sum.fill(0);
    this.squares.fill(0);
  }

  result(): GateEstimate {
    return {
      rows: this.perSample ?? 1,
      gates: this.gates,
      gradient: this.gradient,
      curvature: this.curvature,
      standardError: this.probing.directions === 'signs' ? this.variance.map(Math.sqrt) : undefined,
    };
  }

  private rowOf(position: number): number {
    return this.perSample === undefined ? 0 : position * this.gates;
  }
}
