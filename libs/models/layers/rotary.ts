import type { GraphBuilder } from '../../onnx/builder.js';
import type { Value } from '../../onnx/ir.js';
import { add, concat, mul, reshape, slice, sub } from '../../onnx/ops/index.js';
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

/** x [B, T, .., headWidth] at the positions 0 to T − 1 turned, in standard operators. `axis` is that of T. */
export function rotated(g: GraphBuilder, x: Value, rotary: Rotary, axis: number): Value {
  if (rotary.width === 0) return x;
  const length = fixed(x.shape[axis], 'the number of positions');
  const { cos, sin } = rotaryConstants(g, rotary, length);
  const dims = x.shape.slice(axis).map((_, i, all) => (i === 0 ? length : i === all.length - 1 ? rotary.width / 2 : 1));
  return turned(g, x, rotary.width, reshape(g, cos, dims), reshape(g, sin, dims));
}

/**
 * The first `width` numbers of the last axis turned; cos and sin broadcast to their halves. The pairs are (i, i + width / 2):
 * y₁ = x₁ cos − x₂ sin, y₂ = x₂ cos + x₁ sin.
 */
export function turned(g: GraphBuilder, x: Value, width: number, cos: Value, sin: Value): Value {
  const all = fixed(x.shape.at(-1), 'the width of a head');
  const first = slice(g, x, -1, 0, width / 2);
  const second = slice(g, x, -1, width / 2, width);
  const halves = [
    sub(g, mul(g, first, cos), mul(g, second, sin)),
    add(g, mul(g, second, cos), mul(g, first, sin)),
  ];
  return concat(g, all > width ? [...halves, slice(g, x, -1, width, all)] : halves, -1);
}

/**
 * The widest rotation that the runtime's attention kernel does by itself: heads in multiples of 16 numbers and pairs in multiples of 8.
 * Pairs that the model lacks turn by nothing: they are numbers of the head that are not turned, moved to where the kernel wants the pair.
 * undefined where it cannot.
 */
export function kernelRotary({ width }: Rotary, headWidth: number): number | undefined {
  const padded = Math.ceil(width / 16) * 16;
  return headWidth % 16 === 0 && padded <= headWidth && width > 0 ? padded : undefined;
}

/**
 * The order in which the numbers of a head's query and key lie for a kernel that turns `padded` of them: the first halves of the pairs,
 * then the second halves, then the rest. Queries and keys are in the same order, so their products are what they were.
 */
export function kernelOrder({ width }: Rotary, headWidth: number, padded: number): readonly number[] {
  const half = width / 2;
  const extra = (padded - width) / 2;
  const from = (start: number, count: number) => Array.from({ length: count }, (_, i) => start + i);
  return [
    ...from(0, half),
    ...from(width, extra),
    ...from(half, half),
    ...from(width + extra, extra),
    ...from(padded, headWidth - padded),
  ];
}

interface RotaryConstants {
  readonly cos: Value;
  readonly sin: Value;
}

/** Every block of a graph turns by the same tables, which are long where the context is. */
const constantsOf = new WeakMap<GraphBuilder, Map<string, RotaryConstants>>();

/** cos and sin of the positions of a context as constants [context, padded / 2]; the pairs that are not the model's stand still. */
export function rotaryConstants(
  g: GraphBuilder,
  rotary: Rotary,
  context: number,
  padded: number = rotary.width,
): RotaryConstants {
  const ofGraph = constantsOf.get(g) ?? new Map<string, RotaryConstants>();
  constantsOf.set(g, ofGraph);
  const key = [rotary.width, rotary.base, context, padded].join();
  const known = ofGraph.get(key);
  if (known) return known;
  const [half, filled] = [rotary.width / 2, padded / 2];
  const { cos, sin } = rotaryTables(rotary, context);
  const table = (values: Float64Array, still: number) => {
    const all = new Float64Array(context * filled).fill(still);
    for (let position = 0; position < context; position++)
      all.set(values.subarray(position * half, (position + 1) * half), position * filled);
    return g.constant(all, [context, filled]);
  };
  const made = { cos: table(cos, 1), sin: table(sin, 0) };
  ofGraph.set(key, made);
  return made;
}
