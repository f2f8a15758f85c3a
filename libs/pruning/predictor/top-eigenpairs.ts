import { randomFor, type RandomGenerator } from '../../data/random.js';
import { symmetricEigen, type Eigenpairs } from './symmetric-eigen.js';

/** Residual, relative to the greatest eigenvalue, at which an eigenpair counts as found. */
const tolerance = 1e-8;
/** Products with the matrix after which the pairs are taken as they are: a spectrum without a gap has no sharper answer. */
const productLimit = 48;
/** A filter of higher gain would leave of each vector little but its share of the greatest eigenvector. */
const gainLimit = 1e8;

/**
 * The greatest `rank` eigenpairs of a symmetric positive semidefinite matrix [n, n] by Chebyshev-filtered subspace iteration
 * (Saad, Numerical Methods for Large Eigenvalue Problems, chapter 5; Zhou & Saad 2006): a polynomial that is small on
 * [0, least Ritz value] is applied to a few vectors more than are wanted, then QR, then Rayleigh–Ritz. The same seed gives the
 * same bits.
 */
export function topEigenpairs(matrix: Float64Array, n: number, rank: number, seed: number): Eigenpairs {
  const width = Math.min(n, rank + Math.max(8, rank >> 1));
  const random = randomFor(seed, n, rank);
  let basis = Float64Array.from({ length: width * n }, () => random.next() / 2 ** 31);
  orthonormalise(basis, n, random);
  let image = product(matrix, n, basis);
  let products = 1;
  let ritz = rayleighRitz(basis, image, n);
  while (width < n && products < productLimit && residual(ritz, n, rank) > tolerance * ritz.values[0]!) {
    const [greatest, least] = [ritz.values[0]!, ritz.values[width - 1]!];
    const degree = degreeFor(greatest / least);
    // With nothing to damp (a matrix of lower rank than the basis) one plain step leaves only its range.
    basis = degree > 0 ? filter(matrix, n, ritz.vectors, ritz.image, least / 2, degree) : ritz.image;
    orthonormalise(basis, n, random);
    image = product(matrix, n, basis);
    products += Math.max(1, degree);
    ritz = rayleighRitz(basis, image, n);
  }
  return { values: ritz.values.slice(0, rank), vectors: ritz.vectors.slice(0, rank * n) };
}

/** T_m(x) = cosh(m · arcosh x) beyond 1: the degree m at which the greatest eigenvalue is amplified to the limit; 0 if none is so low. */
function degreeFor(ratio: number): number {
  if (!(ratio > 0 && ratio < gainLimit)) return 0;
  return Math.max(1, Math.min(10, Math.floor(Math.log(gainLimit) / Math.acosh(2 * ratio - 1))));
}

/** M applied to each vector (rows of `vectors`, [count, n]), four at a time so that a row of M is read once for them. */
function product(matrix: Float64Array, n: number, vectors: Float64Array): Float64Array<ArrayBuffer> {
  const count = vectors.length / n;
  const out = new Float64Array(vectors.length);
  for (let j = 0; j < count; j += 4) {
    // Past the last vector the last one is computed again.
    const [v0, v1, v2, v3] = [0, 1, 2, 3].map((k) => Math.min(j + k, count - 1) * n) as [
      number,
      number,
      number,
      number,
    ];
    for (let i = 0; i < n; i++) {
      let [s0, s1, s2, s3] = [0, 0, 0, 0];
      const row = i * n;
      for (let k = 0; k < n; k++) {
        const m = matrix[row + k]!;
        s0 += m * vectors[v0 + k]!;
        s1 += m * vectors[v1 + k]!;
        s2 += m * vectors[v2 + k]!;
        s3 += m * vectors[v3 + k]!;
      }
      out[v0 + i] = s0;
      out[v1 + i] = s1;
      out[v2 + i] = s2;
      out[v3 + i] = s3;
    }
  }
  return out;
}

/** T_m((M − c) / c) V by T_{k+1} = 2x T_k − T_{k−1}; `image` is M V. Eigenvalues of [0, 2c] stay at most 1 in size. */
function filter(
  matrix: Float64Array,
  n: number,
  vectors: Float64Array,
  image: Float64Array,
  centre: number,
  degree: number,
): Float64Array<ArrayBuffer> {
  let previous = vectors;
  let current = image.map((value, at) => value / centre - vectors[at]!);
  for (let k = 1; k < degree; k++) {
    const next = product(matrix, n, current);
    for (let at = 0; at < next.length; at++) {
      next[at] = 2 * (next[at]! / centre - current[at]!) - previous[at]!;
    }
    [previous, current] = [current, next];
  }
  return current;
}

/** Gram–Schmidt, twice (Kahan's "twice is enough"), in place; a vector that depends on those before it is drawn anew. */
function orthonormalise(vectors: Float64Array, n: number, random: RandomGenerator): void {
  const count = vectors.length / n;
  for (let j = 0; j < count; j++) {
    const own = vectors.subarray(j * n, (j + 1) * n);
    for (let attempt = 0; attempt < 4; attempt++) {
      const before = norm(own);
      scale(own, before > 0 ? 1 / before : 0);
      let left = 0;
      for (let pass = 0; pass < 2; pass++) {
        for (let i = 0; i < j; i++) {
          const other = vectors.subarray(i * n, (i + 1) * n);
          let inner = 0;
          for (let k = 0; k < n; k++) inner += own[k]! * other[k]!;
          for (let k = 0; k < n; k++) own[k] = own[k]! - inner * other[k]!;
        }
        left = norm(own);
        if (left < 1e-12) break;
        scale(own, 1 / left);
      }
      if (left >= 1e-12) break;
      for (let k = 0; k < n; k++) own[k] = random.next() / 2 ** 31;
    }
  }
}

/** The eigenpairs of QᵀMQ carried back, and M times their vectors. */
function rayleighRitz(
  basis: Float64Array,
  image: Float64Array,
  n: number,
): Eigenpairs & { image: Float64Array<ArrayBuffer> } {
  const width = basis.length / n;
  const small = new Float64Array(width * width);
  for (let i = 0; i < width; i++) {
    for (let j = 0; j <= i; j++) {
      let inner = 0;
      for (let k = 0; k < n; k++) inner += basis[i * n + k]! * image[j * n + k]!;
      small[i * width + j] = small[j * width + i] = inner;
    }
  }
  const { values, vectors } = symmetricEigen(small, width);
  return { values, vectors: combine(vectors, basis, width, n), image: combine(vectors, image, width, n) };
}

/** coefficients [w, w] · vectors [w, n]. */
function combine(
  coefficients: Float64Array,
  vectors: Float64Array,
  width: number,
  n: number,
): Float64Array<ArrayBuffer> {
  const out = new Float64Array(width * n);
  for (let i = 0; i < width; i++) {
    for (let j = 0; j < width; j++) {
      const c = coefficients[i * width + j]!;
      for (let k = 0; k < n; k++) out[i * n + k] = out[i * n + k]! + c * vectors[j * n + k]!;
    }
  }
  return out;
}

/** The greatest ‖M v − λ v‖ of the wanted pairs. */
function residual({ values, vectors, image }: Eigenpairs & { image: Float64Array }, n: number, rank: number): number {
  let worst = 0;
  for (let j = 0; j < Math.min(rank, values.length); j++) {
    let square = 0;
    for (let k = j * n; k < (j + 1) * n; k++) square += (image[k]! - values[j]! * vectors[k]!) ** 2;
    worst = Math.max(worst, Math.sqrt(square));
  }
  return worst;
}

function norm(vector: Float64Array): number {
  let square = 0;
  for (let k = 0; k < vector.length; k++) square += vector[k]! ** 2;
  return Math.sqrt(square);
}

function scale(vector: Float64Array, factor: number): void {
  for (let k = 0; k < vector.length; k++) vector[k] = vector[k]! * factor;
}
