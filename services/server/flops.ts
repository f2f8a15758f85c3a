import type { TensorValue } from '../../libs/runtime/tensor.js';
import type { Manifest } from '../../libs/store/manifest.js';

/** Tokens that each stage kept, a row a sample, from the output `tokens_kept`; no rows' entries where the version has no stages. */
export function tokensKeptOf(manifest: Manifest, output: TensorValue | undefined, batch: number): number[][] {
  const stages = manifest.tokens.stages.length;
  const data = output && stages > 0 ? Array.from(output.data as Int32Array) : [];
  return Array.from({ length: batch }, (_, sample) => data.slice(sample * stages, (sample + 1) * stages));
}

/** FLOPs of one sample: segment s costs c + l·t + q·t² at the t tokens that stage s left (all of them before the first). */
export function flopsOf({ flops, tokens }: Manifest, kept: readonly number[]): number {
  return flops.segments.reduce((sum, { constant, linear, quadratic }, segment) => {
    const t = segment === 0 ? tokens.total : (kept[segment - 1] ?? tokens.total);
    return sum + constant + linear * t + quadratic * t * t;
  }, 0);
}
