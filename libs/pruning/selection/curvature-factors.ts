import { internal, invalid } from '../../errors/error.js';

/**
 * The Hessian over the gates of a family of units, as far as choosing units needs it. `full`: H itself, [n, n], symmetric.
 * `diagonal`: units that do not interact. `factors`: rows u_k of U [K, n] with H ≈ UᵀU / K, as the probes of an output sketch are; n may be large, H is never formed.
 * `shrinkage` ρ in [0, 1] takes (1 − ρ) of everything beside the diagonal (see `shrinkageOf`).
 */
export type UnitCurvature =
  | { readonly kind: 'full'; readonly H: Float64Array | Float32Array }
  | { readonly kind: 'diagonal'; readonly diagonal: Float64Array }
  | { readonly kind: 'factors'; readonly U: Float32Array; readonly K: number; readonly shrinkage?: number };

/**
 * The field H s of the units chosen so far. Of a large family it is kept up to date for a pool of candidates only, and brought up to
 * date for all by `refresh`.
 */
export interface Field {
  /** H_jj, [n]. */
  readonly diagonal: Float64Array;
  /** (H s)_j; exact for the units of `pool`, for the others as of the last refresh. */
  readonly values: Float64Array;
  /** The units whose values are exact; undefined when all are. */
  readonly pool: Int32Array | undefined;
  /** Adds unit j to s; j must be of the pool. */
  take(j: number): void;
  /** Makes all values exact, and then these units the pool. */
  refresh(): void;
  /** Counts s from the units chosen so far: what they did is known otherwise. */
  restart(): void;
  choosePool(units: Int32Array): void;
}

/** Up to so many units H is formed: two megabytes. */
export const fullLimit = 512;

/** @throws HeartwoodError INVALID_ARGUMENT when sizes disagree or a number is not finite */
export function fieldOf(curvature: UnitCurvature, n: number): Field {
  if (curvature.kind === 'full') {
    if (curvature.H.length !== n * n)
      throw invalid(`a Hessian has ${curvature.H.length} elements, expected ${n} × ${n}`);
    return new FullField(checked(curvature.H), n);
  }
  if (curvature.kind === 'diagonal') {
    if (curvature.diagonal.length !== n)
      throw invalid(`a Hessian's diagonal has ${curvature.diagonal.length} elements, expected ${n}`);
    return new DiagonalField(checked(curvature.diagonal));
  }
  const { U, K, shrinkage = 0 } = curvature;
  if (U.length !== K * n || K < 1) throw invalid(`factors have ${U.length} elements, expected ${K} × ${n}`);
  const kept = 1 - shrinkage;
  return n <= fullLimit
    ? new FullField(gram(checked(U), K, n, indices(n), kept), n)
    : new FactoredField(checked(U), K, n, kept);
}

/** H s + H e_j is a column's addition, O(n). */
class FullField implements Field {
  readonly diagonal: Float64Array;
  readonly values: Float64Array;
  readonly pool = undefined;

  constructor(
    private readonly H: Float64Array | Float32Array,
    n: number,
  ) {
    this.diagonal = Float64Array.from({ length: n }, (_, i) => H[i * n + i]!);
    this.values = new Float64Array(n);
  }

  take(j: number): void {
    const n = this.values.length;
    for (let i = 0; i < n; i++) this.values[i] = this.values[i]! + this.H[j * n + i]!;
  }

  refresh(): void {
    // Always exact.
  }

  restart(): void {
    this.values.fill(0);
  }

  choosePool(): void {
    throw internal('a full Hessian needs no pool');
  }
}

/** Without interactions H s does not reach those that are left. */
class DiagonalField implements Field {
  readonly values: Float64Array;
  pool: Int32Array = new Int32Array(0);

  constructor(readonly diagonal: Float64Array) {
    this.values = new Float64Array(diagonal.length);
  }

  take(): void {
    // Nobody else's loss changes.
  }

  refresh(): void {
    // Always exact.
  }

  restart(): void {
    // Nobody's loss had changed.
  }

  choosePool(units: Int32Array): void {
    this.pool = units;
  }
}

/** H s = Uᵀ (U s) / K: p = U s is updated by every choice, O(K); the values of a pool of C by its own C × C part of H, O(C). */
class FactoredField implements Field {
  readonly diagonal: Float64Array;
  readonly values: Float64Array;
  pool: Int32Array = new Int32Array(0);
  private readonly product: Float64Array;
  private among = new Float64Array(0);
  private readonly place: Int32Array;

  constructor(
    private readonly U: Float32Array,
    private readonly K: number,
    private readonly n: number,
    /** What is left of everything beside the diagonal. */
    private readonly kept: number,
  ) {
    this.values = new Float64Array(n);
    this.diagonal = new Float64Array(n);
    this.product = new Float64Array(K);
    this.place = new Int32Array(n).fill(-1);
    for (let k = 0; k < K; k++) {
      for (let i = 0; i < n; i++) this.diagonal[i] = this.diagonal[i]! + U[k * n + i]! ** 2 / K;
    }
  }

  take(j: number): void {
    const { U, K, n, pool, among, values } = this;
    const own = this.place[j]!;
    if (own < 0) throw internal(`unit ${j} is not of the pool`);
    for (let k = 0; k < K; k++) this.product[k] = this.product[k]! + U[k * n + j]!;
    for (let c = 0; c < pool.length; c++) values[pool[c]!] = values[pool[c]!]! + among[own * pool.length + c]!;
  }

  refresh(): void {
    const { U, K, n, values, product, kept } = this;
    values.fill(0);
    for (let k = 0; k < K; k++) {
      const weight = (kept * product[k]!) / K;
      if (weight === 0) continue;
      for (let i = 0; i < n; i++) values[i] = values[i]! + weight * U[k * n + i]!;
    }
  }

  restart(): void {
    this.product.fill(0);
    this.values.fill(0);
  }

  choosePool(units: Int32Array): void {
    for (const unit of this.pool) this.place[unit] = -1;
    this.pool = units;
    units.forEach((unit, at) => (this.place[unit] = at));
    this.among = gram(this.U, this.K, this.n, units, this.kept);
  }
}

/** U_CᵀU_C / K of some columns, what is beside the diagonal times `kept`, [C, C]. */
function gram(U: Float32Array, K: number, n: number, columns: Int32Array, kept: number): Float64Array<ArrayBuffer> {
  const C = columns.length;
  const out = new Float64Array(C * C);
  const row = new Float64Array(C);
  for (let k = 0; k < K; k++) {
    for (let c = 0; c < C; c++) row[c] = U[k * n + columns[c]!]!;
    for (let a = 0; a < C; a++) {
      const weight = row[a]! / K;
      if (weight === 0) continue;
      for (let b = 0; b < C; b++) out[a * C + b] = out[a * C + b]! + weight * row[b]!;
    }
  }
  for (let at = 0; at < out.length; at++) if (at % (C + 1) > 0) out[at]! *= kept;
  return out;
}

function indices(n: number): Int32Array {
  return Int32Array.from({ length: n }, (_, i) => i);
}

function checked<T extends Float32Array | Float64Array>(values: T): T {
  for (let i = 0; i < values.length; i++) {
    if (!Number.isFinite(values[i]!))
      throw invalid(`element ${i} of a Hessian is ${values[i]}, expected a finite number`);
  }
  return values;
}
