import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { writeSafetensors, readSafetensors } from '../libs/models/safetensors.js';
import { encodeModel } from '../libs/onnx/encode.js';
import type { Graph, Node, Tensor, Value } from '../libs/onnx/ir.js';
import { writeModel } from '../libs/onnx/write.js';
import { createRuntime, type Runtime } from '../libs/runtime/runtime.js';

let folder = '';
let runtime: Runtime;
before(() => {
  folder = mkdtempSync(join(tmpdir(), 'heartwood-files-'));
  runtime = createRuntime({ workers: 1, threads: 1 });
});
after(async () => {
  await runtime.close();
  rmSync(folder, { recursive: true, force: true });
});

const size = 300;
const value = (name: string): Value => ({ name, type: 'float32', shape: [size] });
const inline = (of: number, length = size): Tensor => ({
  type: 'float32',
  dims: [length],
  data: { kind: 'inline', bytes: new Uint8Array(new Float32Array(length).fill(of).buffer) },
});
const add = (a: Value, b: Value, out: Value): Node => ({
  op: 'Add',
  domain: '',
  name: out.name,
  inputs: [a, b],
  outputs: [out],
  attributes: {},
});

/** y = ((x + a) + b) + c over the three tensors. */
function sum(tensors: readonly Tensor[]): Graph {
  const weights = tensors.map((tensor, i) => ({ value: { ...value(`w${i}`), shape: tensor.dims }, tensor }));
  const values = [value('x'), ...weights.map((_, i) => value(`y${i}`))];
  return {
    name: 'sum',
    inputs: [values[0]!],
    outputs: [values.at(-1)!],
    initializers: weights,
    nodes: weights.map((weight, i) => add(values[i]!, weight.value, values[i + 1]!)),
  };
}

async function evaluate(model: string | Uint8Array): Promise<number> {
  const session = await runtime.load(model);
  const answer = await session.run({ x: { type: 'float32', dims: [size], data: new Float32Array(size).fill(1) } });
  await session.dispose();
  return (answer.y2!.data as Float32Array)[size - 1]!;
}

describe('ONNX files and the runtime', () => {
  it('loads weights from the checkpoint, from the data file and from the protobuf', async () => {
    const checkpoint = join(folder, 'checkpoint.safetensors');
    // One byte before it: the weight begins at an odd offset.
    await writeSafetensors(checkpoint, [
      { name: 'pad', type: 'uint8', shape: [1], bytes: Uint8Array.of(1) },
      { name: 'w', type: 'float32', shape: [size], bytes: new Uint8Array(new Float32Array(size).fill(10).buffer) },
    ]);
    const { file, offset, length } = (await readSafetensors(checkpoint)).tensors.get('w')!;
    const linked: Tensor = { type: 'float32', dims: [size], data: { kind: 'external', file, offset, length } };
    const directory = mkdtempSync(join(folder, 'version-'));
    const path = join(directory, 'model.onnx');
    await writeModel(sum([linked, inline(100), inline(1000, 1)]), path);
    assert.equal(await evaluate(path), 1111);
    rmSync(checkpoint);
    assert.equal(await evaluate(path), 1111, 'the link outlives the checkpoint');
  });

  it('loads an encoded graph from memory', async () => {
    assert.equal(await evaluate(encodeModel(sum([inline(2), inline(3), inline(4)]))), 10);
  });

  it('refuses what is no model', async () => {
    const path = join(folder, 'no.onnx');
    writeFileSync(path, 'no model');
    await assert.rejects(evaluate(path));
  });
});
