import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, linkSync, mkdtempSync, readdirSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import fc from 'fast-check';
import { HeartwoodError } from '../errors/error.js';
import { encodeModel } from './encode.js';
import { ModelProto, TensorProto, TensorProto_DataType } from './gen/onnx.js';
import type { Attribute, Graph, Tensor, Value } from './ir.js';
import { readModel } from './read.js';
import { resolved } from './resolved.js';
import { writeModel } from './write.js';

let folder = '';
before(() => void (folder = mkdtempSync(join(tmpdir(), 'heartwood-onnx-'))));
after(() => rmSync(folder, { recursive: true, force: true }));

/** A new empty folder of this test run. */
const fresh = () => mkdtempSync(join(folder, 'case-'));

const float32 = (values: number[], dims = [values.length]): Tensor => ({
  type: 'float32',
  dims,
  data: { kind: 'inline', bytes: new Uint8Array(Float32Array.from(values).buffer) },
});

/** y = x + w, with w as given. */
function addition(tensor: Tensor): Graph {
  const x: Value = { name: 'x', type: tensor.type, shape: ['B', ...tensor.dims] };
  const w: Value = { name: 'w', type: tensor.type, shape: tensor.dims };
  const y: Value = { name: 'y', type: tensor.type, shape: x.shape };
  return {
    name: 'addition',
    inputs: [x],
    outputs: [y],
    initializers: [{ value: w, tensor }],
    nodes: [{ op: 'Add', domain: '', name: 'add', inputs: [x, w], outputs: [y], attributes: {} }],
  };
}

const rejects = (promise: Promise<unknown>, pattern: RegExp, code = 'INVALID_ARGUMENT') =>
  assert.rejects(promise, (error: unknown) => {
    assert.ok(error instanceof HeartwoodError, String(error));
    assert.equal(error.code, code);
    assert.match(error.message, pattern);
    assert.ok(!error.message.includes('\n'), 'one line');
    return true;
  });

describe('ONNX files', () => {
  it('keep small tensors inside and put large ones, each bytes once, into one aligned data file', async () => {
    const directory = fresh();
    const large = float32(Array.from({ length: 257 }, (_, i) => i));
    const graph = addition(large);
    const twice: Value = { name: 'again', type: 'float32', shape: [257] };
    const other: Value = { name: 'other', type: 'float32', shape: [300] };
    const both = {
      ...graph,
      initializers: [
        ...graph.initializers,
        { value: twice, tensor: large },
        { value: other, tensor: float32(Array.from({ length: 300 }, () => 7)) },
        {
          value: { name: 'small', type: 'float32', shape: [256] } as const,
          tensor: float32(Array.from({ length: 256 }, () => 1)),
        },
      ],
    };
    await writeModel(both, join(directory, 'm.onnx'));
    const back = await readModel(join(directory, 'm.onnx'));
    const offsets = back.initializers.map(({ tensor }) =>
      tensor.data.kind === 'external' ? tensor.data.offset : 'inside',
    );
    assert.deepEqual(offsets, [0, 0, 1088, 'inside']);
    assert.equal(statSync(join(directory, 'm.data')).size, 1088 + 1200);
  });

  it('refer to the checkpoint through a hard link, a symbolic one resolved, or through a copy', async () => {
    const store = fresh();
    writeFileSync(join(store, 'blob'), Buffer.from(Float32Array.of(9, 1, 2, 3).buffer));
    symlinkSync(join(store, 'blob'), join(store, 'model.safetensors'));
    const file = join(store, 'model.safetensors');
    const graph = addition({ type: 'float32', dims: [3], data: { kind: 'external', file, offset: 4, length: 12 } });
    for (const links of ['hard', 'copy'] as const) {
      const directory = fresh();
      await writeModel(graph, join(directory, 'model.onnx'), { links });
      const beside = join(directory, 'model.safetensors');
      assert.equal(statSync(beside).ino === statSync(join(store, 'blob')).ino, links === 'hard');
      const back = await readModel(join(directory, 'model.onnx'));
      assert.deepEqual(back.initializers[0]?.tensor.data, { kind: 'external', file: beside, offset: 4, length: 12 });
      // Writing what was read, over itself, keeps the reference.
      await writeModel(back, join(directory, 'model.onnx'));
      assert.deepEqual(await readModel(join(directory, 'model.onnx')), back);
    }
  });

  it('give files of the same name and other content a digest in their names', async () => {
    const [one, two, directory] = [fresh(), fresh(), fresh()];
    const graphs = [one, two].map((place, i) => {
      writeFileSync(join(place, 'w.safetensors'), Buffer.from(Float32Array.of(i).buffer));
      return addition({
        type: 'float32',
        dims: [1],
        data: { kind: 'external', file: join(place, 'w.safetensors'), offset: 0, length: 4 },
      });
    });
    await writeModel(graphs[0]!, join(directory, 'a.onnx'));
    await writeModel(graphs[1]!, join(directory, 'b.onnx'));
    await writeModel(graphs[1]!, join(directory, 'c.onnx'));
    const names = readdirSync(directory).sort();
    assert.equal(names.length, 5, names.join(' '));
    assert.match(names[3]!, /^w-[0-9a-f]{12}\.safetensors$/);
    const back = await readModel(join(directory, 'b.onnx'));
    assert.deepEqual(resolved(back).initializers[0]?.tensor, float32([1]));
  });

  it('do not overwrite a data file that the graph itself refers to', async () => {
    const directory = fresh();
    const path = join(directory, 'model.onnx');
    await writeModel(addition(float32(Array.from({ length: 300 }, (_, i) => i))), path);
    const back = await readModel(path);
    const extra = {
      value: { name: 'v', type: 'float32', shape: [400] } as const,
      tensor: float32(Array.from({ length: 400 }, () => 3)),
    };
    const grown = { ...back, initializers: [...back.initializers, extra] };
    const expected = resolved(grown);
    await writeModel(grown, path);
    assert.deepEqual(resolved(await readModel(path)), expected);
    assert.ok(existsSync(join(directory, 'model-1.data')));
  });

  it('are refused when cut short, wherever that is', async () => {
    const directory = fresh();
    const path = join(directory, 'model.onnx');
    const whole = encodeModel(addition(float32([1, 2, 3])));
    for (let length = 0; length < whole.length; length++) {
      writeFileSync(path, whole.subarray(0, length));
      await rejects(readModel(path), /model\.onnx: /);
    }
  });

  it('are refused when foreign or damaged, never with another kind of error', async () => {
    const path = join(fresh(), 'model.onnx');
    const whole = encodeModel(addition(float32([1, 2, 3])));
    await fc.assert(
      fc.asyncProperty(fc.nat(whole.length - 1), fc.nat(255), async (at, byte) => {
        const damaged = Uint8Array.from(whole);
        damaged[at] = byte;
        writeFileSync(path, damaged);
        await readModel(path).catch((error: unknown) => assert.ok(error instanceof HeartwoodError, String(error)));
      }),
      { numRuns: 200 },
    );
    writeFileSync(path, '{"__metadata__": {}}');
    await rejects(readModel(path), /not an ONNX model/);
    await rejects(readModel(join(folder, 'absent.onnx')), /absent\.onnx: cannot be read/, 'NOT_FOUND');
  });

  it('are refused when their external data is elsewhere, missing or too short', async () => {
    const directory = fresh();
    const path = join(directory, 'model.onnx');
    const refer = (location: string, length = 1200) => {
      const model = ModelProto.decode(encodeModel(addition(float32(Array.from({ length: 300 }, () => 0)))));
      const tensor = TensorProto.create({
        name: 'w',
        dims: [300n],
        dataType: TensorProto_DataType.FLOAT,
        dataLocation: 1,
      });
      tensor.externalData = [
        { key: 'location', value: location },
        { key: 'length', value: String(length) },
      ];
      model.graph!.initializer = [tensor];
      writeFileSync(path, ModelProto.encode(model).finish());
      return readModel(path);
    };
    await rejects(
      refer('../w.data'),
      /initializer w: external data in \.\.\/w\.data, expected a file beside the model/,
    );
    await rejects(refer('/etc/passwd'), /expected a file beside the model/);
    await rejects(refer('w.data'), /external data file .*w\.data is missing/);
    writeFileSync(join(directory, 'w.data'), Buffer.alloc(1199));
    await rejects(refer('w.data'), /has 1199 bytes, expected at least 1200/);
    await rejects(refer('w.data', 1204), /its shape wants 1200/);
    writeFileSync(join(directory, 'w.data'), Buffer.alloc(1200));
    assert.equal((await refer('w.data')).initializers.length, 1);
    linkSync(join(directory, 'w.data'), join(directory, 'v.data'));
    assert.equal((await refer('v.data')).initializers.length, 1);
  });

  it('say what they hold that is not supported', async () => {
    const path = join(fresh(), 'model.onnx');
    const change = (edit: (model: ModelProto) => void) => {
      const model = ModelProto.decode(encodeModel(addition(float32([1]))));
      edit(model);
      writeFileSync(path, ModelProto.encode(model).finish());
      return readModel(path);
    };
    await rejects(
      change((m) => (m.opsetImport[0]!.version = 13n)),
      /operator set 13 .*, expected 21/,
    );
    await rejects(
      change((m) => (m.graph!.node[0]!.domain = 'ai.other')),
      /node add \(Add\) is of the domain ai\.other/,
    );
    await rejects(
      change((m) => (m.graph!.node[0]!.input[1] = 'u')),
      /reads u, which nothing before it writes/,
    );
    await rejects(
      change((m) => (m.graph!.initializer[0]!.dataType = 14)),
      /initializer w: element type COMPLEX64/,
    );
    await rejects(
      change((m) => (m.graph!.initializer[0]!.dims = [2n])),
      /initializer w: 4 bytes, its shape \[2\] of float32 wants 8/,
    );
    await rejects(
      change((m) => m.graph!.node.pop()),
      /output y: no node writes it/,
    );
    // What other tools write: typed fields in place of raw data.
    const typed = await change((m) =>
      Object.assign(m.graph!.initializer[0]!, { rawData: undefined, floatData: [2.5] }),
    );
    assert.deepEqual(typed.initializers[0]?.tensor, float32([2.5]));
  });

  it('cannot be written into a folder that is not there', async () => {
    await rejects(
      writeModel(addition(float32([1])), join(folder, 'no', 'such', 'model.onnx')),
      /model\.onnx: cannot be written/,
    );
  });

  it('satisfy the checker of the onnx package', async (context) => {
    try {
      execFileSync('python3', ['-c', 'import onnx.checker'], { stdio: 'ignore' });
    } catch {
      return context.skip('python3 has no onnx package');
    }
    const path = join(fresh(), 'model.onnx');
    const zero: Attribute = { kind: 'int', value: 0 };
    const graph = addition(float32(Array.from({ length: 300 }, (_, i) => i)));
    const out: Value = { name: 'z', type: 'float32', shape: ['B', 300] };
    const softmax = {
      op: 'Softmax',
      domain: '',
      name: 's',
      inputs: graph.outputs,
      outputs: [out],
      attributes: { axis: zero },
    } as const;
    await writeModel({ ...graph, outputs: [out], nodes: [...graph.nodes, softmax] }, path);
    const script = 'import onnx,sys;onnx.checker.check_model(sys.argv[1],full_check=True)';
    execFileSync('python3', ['-c', script, path], { stdio: 'pipe' });
  });
});
