import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { randomFor } from '../../data/random.js';
import type { HeartwoodError } from '../../errors/error.js';
import { metricOf } from './metric.js';
import { symmetricEigen } from './symmetric-eigen.js';
import { topEigenpairs } from './top-eigenpairs.js';

/** Q diag(spectrum) Qᵀ, where Q is a product of Householder reflections I − 2 u uᵀ. */
function withSpectrum(spectrum: readonly number[], seed: number): Float64Array {
  const n = spectrum.length;
  const m = new Float64Array(n * n);
  spectrum.forEach((value, i) => (m[i * n + i] = value));
  const random = randomFor(seed);
  for (let turn = 0; turn < 3; turn++) {
    const u = Float64Array.from({ length: n }, () => random.next() / 2 ** 31);
    const length = Math.hypot(...u);
    u.forEach((value, i) => (u[i] = value / length));
    // H M H = M − 2 u (uᵀM) − 2 (M u) uᵀ + 4 (uᵀMu) u uᵀ
    const mu = Float64Array.from({ length: n }, (_, i) => u.reduce((sum, value, k) => sum + m[i * n + k]! * value, 0));
    const umu = mu.reduce((sum, value, k) => sum + value * u[k]!, 0);
    for (let i = 0; i < n; i++) {
      for (let j = 0; j < n; j++) m[i * n + j]! += -2 * u[i]! * mu[j]! - 2 * mu[i]! * u[j]! + 4 * umu * u[i]! * u[j]!;
    }
  }
  return m;
}

/** WᵀW, [r, r]. */
function gram(W: Float32Array, D: number, r: number): number[] {
  return Array.from({ length: r * r }, (_, at) => {
    const [a, b] = [Math.floor(at / r), at % r];
    let sum = 0;
    for (let i = 0; i < D; i++) sum += W[i * r + a]! * W[i * r + b]!;
    return sum;
  });
}

const near = (actual: number, expected: number, tolerance: number, what: string) =>
  assert.ok(Math.abs(actual - expected) <= tolerance, `${what}: ${actual}, expected ${expected}`);

test('columns are orthogonal and as long as the roots of the known eigenvalues, the share is theirs', () => {
  const spectrum = Array.from({ length: 60 }, (_, i) => 7 * 0.7 ** i);
  const { W, share } = metricOf(withSpectrum(spectrum, 3), 5);
  gram(W, 60, 5).forEach((value, at) => {
    const expected = at % 6 === 0 ? spectrum[at / 6]! : 0;
    near(value, expected, 2e-6 * spectrum[0]!, `WᵀW[${at}]`);
  });
  const total = spectrum.reduce((a, b) => a + b, 0);
  near(share, spectrum.slice(0, 5).reduce((a, b) => a + b, 0) / total, 1e-7, 'share');
});

test('a spectrum of many orders of magnitude, equal eigenvalues, and one of low rank', () => {
  const wide = Array.from({ length: 80 }, (_, i) => 10 ** (-i / 4));
  const found = topEigenpairs(withSpectrum(wide, 5), 80, 16, 0);
  found.values.forEach((value, i) => near(value / wide[i]!, 1, 1e-7, `eigenvalue ${i}`));
  const equal = Array.from({ length: 40 }, (_, i) => (i < 4 ? 3 : 0.01));
  topEigenpairs(withSpectrum(equal, 6), 40, 4, 0).values.forEach((value) => near(value, 3, 1e-10, 'equal'));
  const low = Array.from({ length: 50 }, (_, i) => (i < 2 ? 2 - i : 0));
  const { W, share } = metricOf(withSpectrum(low, 7), 6);
  near(share, 1, 1e-12, 'share');
  assert.ok(gram(W, 50, 6).every((value, at) => at === 0 || at === 7 || Math.abs(value) < 1e-6));
});

test('the full rank gives M back: W Wᵀ = M, whatever the matrix', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 12 }), fc.integer(), (D, seed) => {
      const random = randomFor(seed);
      const factor = Float64Array.from({ length: D * D }, () => random.next() / 2 ** 31);
      const M = Float64Array.from({ length: D * D }, (_, at) => {
        const [i, j] = [Math.floor(at / D), at % D];
        return factor.subarray(i * D, i * D + D).reduce((sum, value, k) => sum + value * factor[j * D + k]!, 0);
      });
      const { W, share } = metricOf(M, D, seed);
      const trace = Array.from({ length: D }, (_, i) => M[i * D + i]!).reduce((a, b) => a + b, 0);
      near(share, 1, 1e-9, 'share');
      M.forEach((value, at) => {
        const [i, j] = [Math.floor(at / D), at % D];
        let back = 0;
        for (let k = 0; k < D; k++) back += W[i * D + k]! * W[j * D + k]!;
        near(back, value, 1e-5 * trace, `M[${at}]`);
      });
    }),
    { numRuns: 40 },
  );
});

test('Jacobi finds orthonormal eigenvectors: A v = λ v', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 15 }), fc.integer(), (n, seed) => {
      const random = randomFor(seed);
      const a = new Float64Array(n * n);
      for (let i = 0; i < n; i++) for (let j = 0; j <= i; j++) a[i * n + j] = a[j * n + i] = random.next() / 2 ** 31;
      const { values, vectors } = symmetricEigen(a, n);
      for (let j = 0; j < n; j++) {
        if (j > 0) assert.ok(values[j]! <= values[j - 1]!);
        for (let i = 0; i < n; i++) {
          let [image, inner] = [0, 0];
          for (let k = 0; k < n; k++) {
            image += a[i * n + k]! * vectors[j * n + k]!;
            inner += vectors[i * n + k]! * vectors[j * n + k]!;
          }
          near(image, values[j]! * vectors[j * n + i]!, 1e-12 * n, 'A v');
          near(inner, i === j ? 1 : 0, 1e-12 * n, 'vᵀv');
        }
      }
    }),
    { numRuns: 40 },
  );
});

test('the seed makes it repeatable, and no seed changes what is found; the greatest element of a column is positive', () => {
  const M = withSpectrum(
    Array.from({ length: 70 }, (_, i) => 1 / (1 + i) ** 2),
    11,
  );
  const first = metricOf(M, 8, 1);
  assert.deepEqual(metricOf(M, 8, 1).W, first.W);
  metricOf(M, 8, 2).W.forEach((value, at) => near(value, first.W[at]!, 2e-6, `W[${at}]`));
  for (let j = 0; j < 8; j++) {
    const column = Array.from({ length: 70 }, (_, i) => first.W[i * 8 + j]!);
    assert.ok(Math.max(...column) >= -Math.min(...column));
  }
});

test('what is no metric is refused; a zero metric has zero columns', () => {
  const refused = (M: Float64Array, r: number, message: RegExp) =>
    assert.throws(
      () => metricOf(M, r),
      (error: HeartwoodError) => error.code === 'INVALID_ARGUMENT' && message.test(error.message),
    );
  refused(new Float64Array(7), 1, /7 elements, expected a square/);
  refused(Float64Array.of(1, 0, 0, 1), 3, /rank of a metric is 3, expected 1 … 2/);
  refused(Float64Array.of(1, 0.5, 0, 1), 1, /not symmetric at \(1, 0\)/);
  refused(Float64Array.of(1, 0, 0, NaN), 1, /NaN on its diagonal/);
  assert.deepEqual(metricOf(new Float64Array(9), 2), { W: new Float32Array(6), share: 1 });
});
