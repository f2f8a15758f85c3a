/**
 * ggml's plain block formats (https://github.com/ggml-org/llama.cpp/blob/master/ggml/src/ggml-quants.c, `quantize_row_q8_0_ref` and
 * `quantize_row_q4_0_ref`): 32 weights and a half-precision scale.
 */
import { toFloat16 } from '../../libs/models/float16.js';

export type BlockFormat = 'Q8_0' | 'Q4_0';

export const blockBytes: Readonly<Record<BlockFormat, number>> = { Q8_0: 34, Q4_0: 18 };

/** Quantises rows whose length is a multiple of 32. */
export function quantiseRows(values: Float32Array, format: BlockFormat): Uint8Array {
  const bytes = blockBytes[format];
  const result = new Uint8Array((values.length / 32) * bytes);
  for (let block = 0; block < values.length / 32; block++) {
    const x = values.subarray(block * 32, (block + 1) * 32);
    const into = result.subarray(block * bytes, (block + 1) * bytes);
    const scale = format === 'Q8_0' ? q8(x, into) : q4(x, into);
    const half = toFloat16(scale);
    into[0] = half & 255;
    into[1] = half >> 8;
  }
  return result;
}

/** q = round(x / d), d = max |x| / 127. */
function q8(x: Float32Array, into: Uint8Array): number {
  let most = 0;
  for (const value of x) most = Math.max(most, Math.abs(value));
  const scale = most / 127;
  for (let i = 0; i < 32; i++) into[2 + i] = (scale === 0 ? 0 : Math.round(x[i]! / scale)) & 255;
  return scale;
}

/** q = ⌊x / d + 8.5⌋, at most 15; d puts the weight of the largest magnitude on 0. The halves of a block share its bytes. */
function q4(x: Float32Array, into: Uint8Array): number {
  let extreme = 0;
  for (const value of x) if (Math.abs(value) > Math.abs(extreme)) extreme = value;
  const scale = extreme / -8;
  const level = (value: number) => (scale === 0 ? 8 : Math.min(15, Math.floor(value / scale + 8.5)));
  for (let i = 0; i < 16; i++) into[2 + i] = level(x[i]!) | (level(x[16 + i]!) << 4);
  return scale;
}
