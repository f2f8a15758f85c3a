import type { Node } from '../onnx/ir.js';

/**
 * The operators that have derivatives here. Rule tables are typed over this list, so an operator without a rule does not
 * compile; one that is not listed is refused by name when a derivative meets it.
 */
export const differentiableOps = [
  'Add',
  'Sub',
  'Mul',
  'Div',
  'Neg',
  'Exp',
  'Log',
  'Sqrt',
  'Reciprocal',
  'Erf',
  'Tanh',
  'Gelu',
  'Relu',
  'MatMul',
  'Gemm',
  'ReduceSum',
  'ReduceMean',
  'Softmax',
  'LogSoftmax',
  'LayerNormalization',
  'Reshape',
  'Transpose',
  'Expand',
  'Concat',
  'Slice',
  'Pad',
  'Squeeze',
  'Unsqueeze',
  'Gather',
  'GatherND',
  'ScatterND',
  'Where',
  'Identity',
] as const;

export type DifferentiableOp = (typeof differentiableOps)[number];

const known: ReadonlySet<string> = new Set(differentiableOps);

/** True when the tables have rules for the node's operator. */
export function isDifferentiable(node: Node): node is Node & { readonly op: DifferentiableOp } {
  return node.domain === '' && known.has(node.op);
}
