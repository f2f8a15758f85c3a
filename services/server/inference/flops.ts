import type { TensorValue } from '../../../libs/runtime/tensor.js';
import { flopsAt } from '../../../libs/store/segments.js';
import type { ImageManifest } from '../../../libs/store/manifest.js';

/** Tokens that each stage kept, a row a sample, from the output `tokens_kept`; no rows' entries where the version has no stages. */
export function tokensKeptOf(manifest: ImageManifest, output: TensorValue | undefined, batch: number): number[][] {
  const stages = manifest.tokens.stages.length;
  const data = output && stages > 0 ? Array.from(output.data as Int32Array) : [];
  return Array.from({ length: batch }, (_, sample) => data.slice(sample * stages, (sample + 1) * stages));
}

/** FLOPs of one sample at the tokens that each stage left of it. */
export function flopsOf({ flops, tokens }: ImageManifest, kept: readonly number[]): number {
  return flopsAt(flops.segments, kept, tokens.total);
}
