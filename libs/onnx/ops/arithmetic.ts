import type { GraphBuilder } from '../builder.js';
import type { ElementType, Value } from '../ir.js';
import { broadcast } from '../shapes.js';

/** Element-wise operators with numpy's broadcasting. Shapes: a, b → broadcast(a, b). */

type BinaryOp = 'Add' | 'Sub' | 'Mul' | 'Div' | 'Pow' | 'Min' | 'Max' | 'Mod';
type UnaryOp =
  'Neg' | 'Exp' | 'Log' | 'Sqrt' | 'Reciprocal' | 'Erf' | 'Tanh' | 'Sigmoid' | 'Relu' | 'Abs' | 'Floor' | 'Ceil';
type Operand = Value | number;

function operand(g: GraphBuilder, x: Operand, like: ElementType): Value {
  if (typeof x !== 'number') return x;
  return like === 'int64' ? g.integers(x) : g.constant(x);
}

function binary(g: GraphBuilder, op: BinaryOp, a: Operand, b: Operand): Value {
  const type = typeof a !== 'number' ? a.type : typeof b !== 'number' ? b.type : g.float;
  const [x, y] = [operand(g, a, type), operand(g, b, type)];
  return g.emitOne({ op, inputs: [x, y], output: { type, shape: broadcast(x.shape, y.shape) } });
}

function unary(g: GraphBuilder, op: UnaryOp, x: Value): Value {
  return g.emitOne({ op, inputs: [x], output: { type: x.type, shape: x.shape } });
}

export const add = (g: GraphBuilder, a: Operand, b: Operand): Value => binary(g, 'Add', a, b);
export const sub = (g: GraphBuilder, a: Operand, b: Operand): Value => binary(g, 'Sub', a, b);
export const mul = (g: GraphBuilder, a: Operand, b: Operand): Value => binary(g, 'Mul', a, b);
export const div = (g: GraphBuilder, a: Operand, b: Operand): Value => binary(g, 'Div', a, b);
export const pow = (g: GraphBuilder, a: Operand, b: Operand): Value => binary(g, 'Pow', a, b);
export const min = (g: GraphBuilder, a: Operand, b: Operand): Value => binary(g, 'Min', a, b);
export const max = (g: GraphBuilder, a: Operand, b: Operand): Value => binary(g, 'Max', a, b);
export const mod = (g: GraphBuilder, a: Operand, b: Operand): Value => binary(g, 'Mod', a, b);

export const neg = (g: GraphBuilder, x: Value): Value => unary(g, 'Neg', x);
export const exp = (g: GraphBuilder, x: Value): Value => unary(g, 'Exp', x);
export const log = (g: GraphBuilder, x: Value): Value => unary(g, 'Log', x);
export const sqrt = (g: GraphBuilder, x: Value): Value => unary(g, 'Sqrt', x);
export const reciprocal = (g: GraphBuilder, x: Value): Value => unary(g, 'Reciprocal', x);
export const erf = (g: GraphBuilder, x: Value): Value => unary(g, 'Erf', x);
export const tanh = (g: GraphBuilder, x: Value): Value => unary(g, 'Tanh', x);
export const sigmoid = (g: GraphBuilder, x: Value): Value => unary(g, 'Sigmoid', x);
export const relu = (g: GraphBuilder, x: Value): Value => unary(g, 'Relu', x);
export const abs = (g: GraphBuilder, x: Value): Value => unary(g, 'Abs', x);
export const floor = (g: GraphBuilder, x: Value): Value => unary(g, 'Floor', x);
export const ceil = (g: GraphBuilder, x: Value): Value => unary(g, 'Ceil', x);

/** x within [least, greatest]; a bound that is left out does not bind. */
export function clip(g: GraphBuilder, x: Value, least?: number, greatest?: number): Value {
  const bound = (value: number | undefined) => (value === undefined ? undefined : g.constant(value));
  const inputs = [x, bound(least), ...(greatest === undefined ? [] : [bound(greatest)])];
  return g.emitOne({ op: 'Clip', inputs, output: { type: x.type, shape: x.shape } });
}

/** The exact GELU, x Φ(x) (opset 20). */
export function gelu(g: GraphBuilder, x: Value): Value {
  return g.emitOne({ op: 'Gelu', inputs: [x], output: { type: x.type, shape: x.shape } });
}

/** An element-wise conversion of type. */
export function cast(g: GraphBuilder, x: Value, to: Exclude<ElementType, 'string'>): Value {
  if (x.type === to) return x;
  return g.emitOne({
    op: 'Cast',
    inputs: [x],
    attributes: { to: { kind: 'int', value: onnxTypeNumber[to] } },
    output: { type: to, shape: x.shape },
  });
}

/** TensorProto.DataType. */
export const onnxTypeNumber: Readonly<Record<ElementType, number>> = {
  float32: 1,
  uint8: 2,
  int8: 3,
  int32: 6,
  int64: 7,
  string: 8,
  bool: 9,
  float16: 10,
  float64: 11,
  bfloat16: 16,
};
