import type { GraphBuilder } from '../../onnx/builder.js';
import type { Value } from '../../onnx/ir.js';
import { add, concat, mul, slice, sub } from '../../onnx/ops/index.js';
import { fixed } from '../../onnx/shapes.js';

/** Rotary position embedding (Su et al. 2021, RoFormer) on the first `width` numbers of a head. */
export interface Rotary {
  /** Even; 0 rotates nothing. */
  readonly width: number;
  /** θ: pair i turns by position · θ^(−2i / width). */
  readonly base: number;
}

/** cos and sin of the angles of the positions 0 to `positions` − 1, row major [positions, width / 2]. */
export function rotaryTables({ width, base }: Rotary, positions: number): { cos: Float64Array; sin: Float64Array } {
  const half = width / 2;
  const cos = new Float64Array(positions * half);
  const sin = new Float64Array(positions * half);
  for (let i = 0; i < half; i++) {
    const speed = base ** (-(2 * i) / width);
    for (let position = 0; position < positions; position++) {
      cos[position * half + i] = Math.cos(position * speed);
      sin[position * half + i] = Math.sin(position * speed);
    }
  }
  return { cos, sin };
}

/**
 * x [B, T, .., headWidth] at the positions 0 to T − 1 turned, in standard operators. The pairs are (i, i + width / 2):
 * y₁ = x₁ cos − x₂ sin, y₂ = x₂ cos + x₁ sin. `axis` is that of T.
 */
export function rotated(g: GraphBuilder, x: Value, rotary: Rotary, axis: number): Value {
  if (rotary.width === 0) return x;
  const half = rotary.width / 2;
  const length = fixed(x.shape[axis], 'the number of positions');
  const { cos, sin } = rotaryTables(rotary, length);
  const dims = x.shape.slice(axis).map((_, i, all) => (i === 0 ? length : i === all.length - 1 ? half : 1));
  const [cosines, sines] = [g.constant([...cos], dims), g.constant([...sin], dims)];
  const width = fixed(x.shape.at(-1), 'the width of a head');
  const first = slice(g, x, -1, 0, half);
  const second = slice(g, x, -1, half, rotary.width);
  const turned = [
    sub(g, mul(g, first, cosines), mul(g, second, sines)),
    add(g, mul(g, second, cosines), mul(g, first, sines)),
  ];
  return concat(g, width > rotary.width ? [...turned, slice(g, x, -1, rotary.width, width)] : turned, -1);
}
