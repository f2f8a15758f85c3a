import type { TensorValue } from '../tensor.js';

type Outputs = Readonly<Record<string, TensorValue>>;

/** Relative errors that rounding comes to: factors of ten bits (TF32) through a deep network stay well below. */
const byRounding = 0.003;
/** And where a rounding has tipped a decision of the graph, such as whether two tokens are merged. */
const byDecision = 0.1;
/** As much of what is decided may tip. */
const tipped = 0.25;
/** Of decisions that come to less one or two may tip. */
const leastDecided = 8;

/**
 * What a provider's outputs have beyond rounding against the CPU's of the same run, in a line; undefined where they agree. The error of a tensor of
 * fractions is ‖y − x‖ / ‖x‖; whole numbers are decisions.
 */
export function disagreement(expected: Outputs, found: Outputs): string | undefined {
  let decided = false;
  let worst = 0;
  let where = '';
  for (const [name, x] of Object.entries(expected)) {
    const y = found[name];
    if (y === undefined || x.dims.join() !== y.dims.join()) return `output ${name} has another shape than on cpu`;
    if (x.type === 'float32' || x.type === 'float64') {
      const error = relativeError(x.data as Float32Array, y.data as Float32Array);
      if (error > worst) [worst, where] = [error, name];
    } else if (x.type !== 'string') {
      const share = differingShare(x.data as Int32Array, y.data as Int32Array);
      if (share > tipped) return `output ${name} is ${(100 * share).toFixed(0)} % other than on cpu`;
      decided ||= share > 0;
    }
  }
  const most = decided ? byDecision : byRounding;
  if (worst <= most) return undefined;
  return `output ${where} is ${(100 * worst).toFixed(1)} % from that of cpu, beyond the ${(100 * most).toFixed(1)} % of rounding`;
}

/** Σ |y − x| / Σ |x| of whole numbers or bits. */
function differingShare(x: Int32Array | BigInt64Array, y: Int32Array | BigInt64Array): number {
  let [difference, sum] = [0, 0];
  for (let at = 0; at < x.length; at++) {
    difference += Math.abs(Number(y[at]) - Number(x[at]));
    sum += Math.abs(Number(x[at]));
  }
  return difference / Math.max(sum, leastDecided);
}

function relativeError(x: Float32Array, y: Float32Array): number {
  let [difference, norm] = [0, 0];
  for (let at = 0; at < x.length; at++) {
    // Equal infinities are no difference.
    if (x[at] === y[at]) norm += Number.isFinite(x[at]!) ? x[at]! ** 2 : 0;
    else {
      difference += (y[at]! - x[at]!) ** 2;
      norm += x[at]! ** 2;
    }
  }
  if (difference === 0) return 0;
  const error = Math.sqrt(difference / Math.max(norm, Number.MIN_VALUE));
  return Number.isNaN(error) ? Infinity : error;
}
