import { argmax, klDivergence, logSoftmax } from '../../../../libs/pruning/measure/divergence.js';
import type { TensorValue } from '../../../../libs/runtime/tensor.js';

/** How a version's answer to one sample, or its prediction of one token, differs from version 1's. */
export interface SampleDivergence {
  /** Whether both put the same class, or token, first. */
  readonly agrees: boolean;
  /** KL(version 1 ‖ served) of the softmaxed logits, nats; 0 where rounding would make it less. */
  readonly kl: number;
}

/** Sample by sample, of two `logits` [B, classes]; undefined where their shapes differ or a value is not finite. */
export function divergences(first: TensorValue, served: TensorValue): SampleDivergence[] | undefined {
  const [batch, classes] = first.dims;
  const [p, q] = [first.data, served.data];
  if (!(p instanceof Float32Array) || !(q instanceof Float32Array)) return undefined;
  if (first.dims.length !== 2 || batch === undefined || classes === undefined) return undefined;
  if (served.dims.length !== 2 || served.dims[0] !== batch || served.dims[1] !== classes) return undefined;
  const found = Array.from({ length: batch }, (_, row): SampleDivergence => {
    const [logP, logQ] = [logSoftmax(p, row, classes), logSoftmax(q, row, classes)];
    const kl = klDivergence(logP, logQ);
    return { agrees: argmax(logP) === argmax(logQ), kl: kl < 0 ? 0 : kl };
  });
  return found.every(({ kl }) => Number.isFinite(kl)) ? found : undefined;
}
