/**
 * Tiny ONNX files for the tests of this folder, written field by field (numbers from onnx.proto3), so that the runtime is
 * tested without the library that writes real ones.
 */
import { BinaryWriter } from '@bufbuild/protobuf/wire';
import type { ElementType } from '../onnx/ir.js';

/** TensorProto.DataType. */
const dataTypes: Partial<Record<ElementType, number>> = {
  float32: 1,
  uint8: 2,
  int8: 3,
  int32: 6,
  int64: 7,
  string: 8,
  bool: 9,
  float64: 11,
};

export interface FixtureValue {
  readonly name: string;
  readonly type: ElementType;
  readonly shape: readonly (number | string)[];
}

export interface FixtureNode {
  readonly op: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
}

function message(write: (writer: BinaryWriter) => void): Uint8Array {
  const writer = new BinaryWriter();
  write(writer);
  return writer.finish();
}

function valueInfo({ name, type, shape }: FixtureValue): Uint8Array {
  const dims = message((w) => {
    for (const dim of shape) {
      w.tag(1, 2).bytes(message((d) => (typeof dim === 'number' ? d.tag(1, 0).int64(dim) : d.tag(2, 2).string(dim))));
    }
  });
  const tensor = message((w) =>
    w
      .tag(1, 0)
      .int32(dataTypes[type] ?? 0)
      .tag(2, 2)
      .bytes(dims),
  );
  return message((w) =>
    w
      .tag(1, 2)
      .string(name)
      .tag(2, 2)
      .bytes(message((t) => t.tag(1, 2).bytes(tensor))),
  );
}

/** A ModelProto of opset 21. */
export function fixtureModel(
  nodes: readonly FixtureNode[],
  inputs: readonly FixtureValue[],
  outputs: readonly FixtureValue[],
): Uint8Array {
  const graph = message((w) => {
    for (const { op, inputs: from, outputs: to } of nodes) {
      const node = message((n) => {
        for (const name of from) n.tag(1, 2).string(name);
        for (const name of to) n.tag(2, 2).string(name);
        n.tag(4, 2).string(op);
      });
      w.tag(1, 2).bytes(node);
    }
    w.tag(2, 2).string('fixture');
    for (const input of inputs) w.tag(11, 2).bytes(valueInfo(input));
    for (const output of outputs) w.tag(12, 2).bytes(valueInfo(output));
  });
  const opset = message((w) => w.tag(1, 2).string('').tag(2, 0).int64(21));
  return message((w) => w.tag(1, 0).int64(10).tag(7, 2).bytes(graph).tag(8, 2).bytes(opset));
}

/** y = x for every given value: outputs are named as the inputs with a `_out`. */
export function identityModel(values: readonly FixtureValue[]): Uint8Array {
  const outputs = values.map((value) => ({ ...value, name: `${value.name}_out` }));
  const nodes = values.map(({ name }) => ({ op: 'Identity', inputs: [name], outputs: [`${name}_out`] }));
  return fixtureModel(nodes, values, outputs);
}

/** x → x·x·…·x of [n, n] matrices: as slow as `products` asks. */
export function powerModel(n: number, products: number): Uint8Array {
  const nodes = Array.from({ length: products }, (_, i) => ({
    op: 'MatMul',
    inputs: [i === 0 ? 'x' : `p${i}`, 'x'],
    outputs: [i === products - 1 ? 'y' : `p${i + 1}`],
  }));
  const value = (name: string): FixtureValue => ({ name, type: 'float32', shape: [n, n] });
  return fixtureModel(nodes, [value('x')], [value('y')]);
}
