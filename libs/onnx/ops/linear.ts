import { internal } from '../../errors/error.js';
import type { GraphBuilder } from '../builder.js';
import type { Value } from '../ir.js';
import { broadcast, describe } from '../shapes.js';

/** a [..., M, K] × b [..., K, N] → [..., M, N], the leading dimensions broadcast. */
export function matMul(g: GraphBuilder, a: Value, b: Value): Value {
  const [m, k] = a.shape.slice(-2);
  const [k2, n] = b.shape.slice(-2);
  if (a.shape.length < 2 || b.shape.length < 2 || k !== k2) {
    throw internal(`MatMul of ${describe(a.shape)} and ${describe(b.shape)}`);
  }
  const batch = broadcast(a.shape.slice(0, -2), b.shape.slice(0, -2));
  return g.emitOne({ op: 'MatMul', inputs: [a, b], output: { type: a.type, shape: [...batch, m!, n!] } });
}

/** op(a) op(b) + c for matrices, where op transposes when asked. a [M, K], b [K, N], c broadcast to [M, N]. */
export function gemm(
  g: GraphBuilder,
  a: Value,
  b: Value,
  c?: Value,
  options: { transA?: boolean; transB?: boolean } = {},
): Value {
  if (a.shape.length !== 2 || b.shape.length !== 2)
    throw internal(`Gemm of ${describe(a.shape)} and ${describe(b.shape)}`);
  const [m, k] = options.transA ? [a.shape[1]!, a.shape[0]!] : [a.shape[0]!, a.shape[1]!];
  const [k2, n] = options.transB ? [b.shape[1]!, b.shape[0]!] : [b.shape[0]!, b.shape[1]!];
  if (k !== k2) throw internal(`Gemm of ${describe(a.shape)} and ${describe(b.shape)}`);
  return g.emitOne({
    op: 'Gemm',
    inputs: c ? [a, b, c] : [a, b],
    attributes: {
      transA: { kind: 'int', value: options.transA ? 1 : 0 },
      transB: { kind: 'int', value: options.transB ? 1 : 0 },
    },
    output: { type: a.type, shape: [m, n] },
  });
}
