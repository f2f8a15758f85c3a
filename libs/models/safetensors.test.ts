import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import fc from 'fast-check';
import { HeartwoodError } from '../errors/error.js';
import { elementSize } from '../onnx/ir.js';
import { toBfloat16, toFloat16 } from './float16.js';
import { readSafetensors, readTensor, readTensorBytes, writeSafetensors } from './safetensors.js';

let folder = '';
before(() => void (folder = mkdtempSync(join(tmpdir(), 'heartwood-safetensors-'))));
after(() => rmSync(folder, { recursive: true, force: true }));

const rejects = (promise: Promise<unknown>, pattern: RegExp) =>
  assert.rejects(promise, (error: unknown) => {
    assert.ok(error instanceof HeartwoodError, String(error));
    assert.match(error.message, pattern);
    assert.ok(!error.message.includes('\n'));
    return true;
  });

const file = () => join(mkdtempSync(join(folder, 'case-')), 'model.safetensors');

/** A file with this header (anything) over this many bytes of data. */
function handmade(header: unknown, data: number, length?: bigint): string {
  const path = file();
  const json = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
  const head = Buffer.alloc(8);
  head.writeBigUInt64LE(length ?? BigInt(json.length));
  writeFileSync(path, Buffer.concat([head, json, Buffer.alloc(data)]));
  return path;
}

const types = ['float64', 'float32', 'float16', 'bfloat16', 'int64', 'int32', 'int8', 'uint8', 'bool'] as const;
const tensor = fc
  .record({ type: fc.constantFrom(...types), shape: fc.array(fc.nat(4), { maxLength: 3 }), seed: fc.nat(255) })
  .map(({ type, shape, seed }) => {
    const length = shape.reduce((product, dim) => product * dim, elementSize[type]);
    return { type, shape, bytes: Uint8Array.from({ length }, (_, i) => (i * 7 + seed) & 255) };
  });

describe('safetensors', () => {
  it('come back as they were written', async () => {
    const path = file();
    await fc.assert(
      fc.asyncProperty(fc.array(tensor, { maxLength: 5 }), fc.dictionary(fc.stringMatching(/^[a-z]{1,8}$/), fc.string()), async (list, metadata) => {
        const tensors = list.map((each, i) => ({ name: `block.${i}.weight`, ...each }));
        await writeSafetensors(path, tensors, { ...metadata });
        const back = await readSafetensors(path);
        assert.deepEqual({ ...back.metadata }, { ...metadata });
        assert.deepEqual([...back.tensors.keys()], tensors.map(({ name }) => name));
        for (const { name, type, shape, bytes } of tensors) {
          const location = back.tensors.get(name)!;
          assert.deepEqual({ type: location.type, shape: location.shape }, { type, shape });
          assert.deepEqual(await readTensorBytes(location), bytes);
        }
      }),
      { numRuns: 50 },
    );
    assert.deepEqual(readdirSync(join(path, '..')), ['model.safetensors'], 'no partial file stays');
  });

  it('read every float type as float32', async () => {
    const path = file();
    const values = [0, -0, 1.5, -2, 0.333251953125, 1e-7, Infinity, NaN];
    const view = (array: ArrayBufferView) => new Uint8Array(array.buffer);
    await writeSafetensors(path, [
      { name: 'byte', type: 'uint8', shape: [1], bytes: Uint8Array.of(1) },
      { name: 'f16', type: 'float16', shape: [8], bytes: view(Uint16Array.from(values, toFloat16)) },
      { name: 'bf16', type: 'bfloat16', shape: [8], bytes: view(Uint16Array.from(values, toBfloat16)) },
      { name: 'f32', type: 'float32', shape: [2, 4], bytes: () => Promise.resolve(view(Float32Array.from(values))) },
      { name: 'f64', type: 'float64', shape: [8], bytes: view(Float64Array.from(values)) },
    ]);
    const { tensors } = await readSafetensors(path);
    const single = Float32Array.from(values);
    // Behind one byte nothing is aligned in the file.
    assert.deepEqual(await readTensor(tensors.get('f32')!), single);
    assert.deepEqual(await readTensor(tensors.get('f64')!), single);
    assert.deepEqual((await readTensor(tensors.get('f16')!))[4], single[4]);
    assert.ok(Math.abs((await readTensor(tensors.get('f16')!))[5]! - 1e-7) < 2 ** -25);
    assert.ok(Number.isNaN((await readTensor(tensors.get('bf16')!))[7]));
    await rejects(readTensor(tensors.get('byte')!), /tensor byte is uint8, expected floating point/);
  });

  it('are refused when cut short, wherever that is', async () => {
    const path = file();
    await writeSafetensors(path, [
      { name: 'a', type: 'float32', shape: [3], bytes: new Uint8Array(12) },
      { name: 'b', type: 'int8', shape: [2], bytes: new Uint8Array(2) },
    ]);
    const whole = readFileSync(path);
    for (let length = 0; length < whole.length; length++) {
      writeFileSync(path, whole.subarray(0, length));
      await rejects(readSafetensors(path), /model\.safetensors: /);
    }
  });

  it('are refused with hostile or foreign headers', async () => {
    const f32 = (begin: number, end: number, shape: unknown = [(end - begin) / 4]) => ({ dtype: 'F32', shape, data_offsets: [begin, end] });
    const cases: [string, RegExp][] = [
      [handmade('', 0, 0n), /not a safetensors file/],
      [handmade('{}', 0, 1n << 63n), /not a safetensors file \(its header would have/],
      [handmade('{}', 0, 50_000_000n), /cut short: a header of 50000000 bytes/],
      [handmade('{"a":', 0), /its header is not JSON/],
      [handmade(Buffer.from([0xff, 0xfe]).toString('latin1') + '[]', 0), /its header is not JSON/],
      [handmade([], 0), /not a JSON object/],
      [handmade({ __metadata__: { a: 1 } }, 0), /__metadata__/],
      [handmade({ a: 3 }, 0), /tensor a: entry/],
      [handmade({ a: { ...f32(0, 4), dtype: 'F8_E4M3' } }, 4), /tensor a: dtype F8_E4M3, expected one of F64, F32/],
      [handmade({ a: { ...f32(0, 4), dtype: 'constructor' } }, 4), /tensor a: dtype constructor/],
      [handmade({ a: f32(0, 4, [-1]) }, 4), /tensor a: shape\.0/],
      [handmade({ a: f32(0, 4, [1.5]) }, 4), /tensor a: shape\.0/],
      [handmade({ a: f32(0, 4, [2 ** 40, 2 ** 40]) }, 4), /tensor a: 4 bytes .* wants/],
      [handmade({ a: f32(0, 8, [3]) }, 8), /tensor a: 8 bytes \(data_offsets 0 to 8\), its shape \[3\] of F32 wants 12/],
      [handmade({ a: f32(4, 0, [1]) }, 4), /tensor a: -4 bytes/],
      [handmade({ a: f32(0, 8), b: f32(4, 12) }, 12), /tensor b at byte \d+ overlaps/],
      [handmade({ a: f32(0, 4), b: f32(8, 12) }, 12), /tensor b at byte \d+ leaves a hole/],
      [handmade({ a: f32(0, 4) }, 8), /4 bytes after the last tensor/],
      [handmade({ a: f32(0, 4000) }, 8), /cut short: tensor a/],
    ];
    for (const [path, pattern] of cases) await rejects(readSafetensors(path), pattern);
    await rejects(readSafetensors(folder), /not a file|cannot be read/);
    await rejects(readSafetensors(join(folder, 'absent')), /absent: cannot be read/);
    const png = file();
    writeFileSync(png, Buffer.from('89504e470d0a1a0a0000000d49484452', 'hex'));
    await rejects(readSafetensors(png), /not a safetensors file/);
  });

  it('are not written from tensors that do not fill their shape, and nothing is left behind', async () => {
    const path = file();
    const short = { name: 'a', type: 'float32', shape: [2], bytes: new Uint8Array(4) } as const;
    await rejects(writeSafetensors(path, [short]), /tensor a has 4 bytes, its shape \[2\] wants 8/);
    await rejects(writeSafetensors(path, [{ ...short, shape: [1] }, { ...short, shape: [1] }]), /two tensors are called a/);
    assert.deepEqual(readdirSync(join(path, '..')), []);
  });
});
