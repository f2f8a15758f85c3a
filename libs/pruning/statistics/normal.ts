/** The normal distribution in double precision. */

/** erf x = 2/√π e^(−x²) Σ_k 2ᵏ x^(2k+1) / (2k+1)!! (Abramowitz & Stegun 7.1.6); all terms have one sign, so nothing cancels. */
export function erf(x: number): number {
  if (Math.abs(x) > 6) return Math.sign(x);
  let term = x;
  let sum = x;
  for (let k = 1; Math.abs(term) > 1e-17 * Math.abs(sum); k++) {
    term *= (2 * x * x) / (2 * k + 1);
    sum += term;
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}

/** φ(z). */
export const normalDensity = (z: number): number => Math.exp(-0.5 * z * z) / Math.sqrt(2 * Math.PI);

/** Φ(z) = ½ (1 + erf(z/√2)). */
export const normalCdf = (z: number): number => 0.5 * (1 + erf(z * Math.SQRT1_2));

/** Φ⁻¹(p), 0 < p < 1, by bisection: −8 … 8 is all that double precision tells from 0 and 1. */
export function normalQuantile(p: number): number {
  let [low, high] = [-8.3, 8.3];
  for (let step = 0; step < 60; step++) {
    const middle = (low + high) / 2;
    if (normalCdf(middle) < p) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}

/** The p-quantile of Student's t by its expansion about the normal one (Abramowitz & Stegun 26.7.5); 1e-3 at 10 degrees of freedom. */
export function studentQuantile(p: number, degrees: number): number {
  const z = normalQuantile(p);
  const [z3, z5, z7] = [z ** 3, z ** 5, z ** 7];
  return (
    z +
    (z3 + z) / (4 * degrees) +
    (5 * z5 + 16 * z3 + 3 * z) / (96 * degrees ** 2) +
    (3 * z7 + 19 * z5 + 17 * z3 - 15 * z) / (384 * degrees ** 3)
  );
}
