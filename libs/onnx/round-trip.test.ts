import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import fc from 'fast-check';
import { elementSize, type Attribute, type ElementType, type Graph, type Tensor, type Value } from './ir.js';
import { readModel } from './read.js';
import { resolved } from './resolved.js';
import { decodeStrings, encodeStrings } from './strings.js';
import { writeModel } from './write.js';

let folder = '';
before(() => void (folder = mkdtempSync(join(tmpdir(), 'heartwood-onnx-'))));
after(() => rmSync(folder, { recursive: true, force: true }));

/** A new empty folder of this test run. */
const fresh = () => mkdtempSync(join(folder, 'case-'));

const types: ElementType[] = [
  'float32',
  'float64',
  'float16',
  'bfloat16',
  'int64',
  'int32',
  'int8',
  'uint8',
  'bool',
  'string',
];

/** A random inline tensor; one in four is large enough to leave the protobuf. */
const tensors: fc.Arbitrary<Tensor> = fc
  .record({
    type: fc.constantFrom(...types),
    dims: fc.array(fc.nat(5), { maxLength: 3 }),
    large: fc.nat(3),
    seed: fc.nat(255),
  })
  .map(({ type, dims, large, seed }) => {
    const shape = large === 0 && type !== 'string' ? [...dims.map((dim) => dim + 1), 300] : dims;
    const count = shape.reduce((product, dim) => product * dim, 1);
    const bytes =
      type === 'string'
        ? encodeStrings(Array.from({ length: count }, (_, i) => `s${seed + i}é`))
        : Uint8Array.from({ length: count * elementSize[type] }, (_, i) => (i * 31 + seed) & 255);
    return { type, dims: shape, data: { kind: 'inline', bytes } };
  });

const attributes: fc.Arbitrary<Attribute> = fc
  .oneof(
    fc.record({ kind: fc.constant('int' as const), value: fc.maxSafeInteger() }),
    fc.record({ kind: fc.constant('ints' as const), value: fc.array(fc.integer()) }),
    fc.record({ kind: fc.constant('float' as const), value: fc.float({ noNaN: true }) }),
    fc.record({ kind: fc.constant('floats' as const), value: fc.array(fc.float({ noNaN: true })) }),
    fc.record({ kind: fc.constant('string' as const), value: fc.string({ unit: 'binary' }) }),
    fc.record({ kind: fc.constant('tensor' as const), value: tensors }),
  )
  // Records of fast-check may have no prototype, which deepEqual minds.
  .map((attribute) => ({ ...attribute }));

const shapes = fc.array(fc.oneof(fc.nat(9), fc.constantFrom('B', 'T')), { maxLength: 4 });

/** Random well-formed graphs: every node reads values before it, some inputs and outputs left out. */
const graphs: fc.Arbitrary<Graph> = fc
  .record({
    inputs: fc.array(fc.tuple(fc.constantFrom(...types), shapes), { minLength: 1, maxLength: 3 }),
    weights: fc.array(tensors, { maxLength: 4 }),
    nodes: fc.array(
      fc.record({
        reads: fc.array(fc.option(fc.nat(), { nil: undefined }), { maxLength: 4 }),
        writes: fc.array(fc.tuple(fc.constantFrom(...types), shapes, fc.nat(4)), { minLength: 1, maxLength: 2 }),
        skipFirst: fc.boolean(),
        domain: fc.constantFrom('' as const, 'com.microsoft' as const),
        attributes: fc.dictionary(fc.stringMatching(/^[a-z]{1,6}$/), attributes, { maxKeys: 3 }),
      }),
      { minLength: 1, maxLength: 6 },
    ),
  })
  .map(({ inputs, weights, nodes }) => {
    const value = (name: string, type: ElementType, shape: readonly (number | string)[]): Value => ({
      name,
      type,
      shape,
    });
    const inputValues = inputs.map(([type, shape], i) => value(`in${i}`, type, shape));
    const initializers = weights.map((tensor, i) => ({ value: value(`w${i}`, tensor.type, tensor.dims), tensor }));
    const known = [...inputValues, ...initializers.map((initializer) => initializer.value)];
    const built = nodes.map(({ reads, writes, skipFirst, domain, attributes: named }, n) => {
      const read = reads.map((index) => (index === undefined ? undefined : known[index % known.length]));
      const outputs = writes.map(([type, shape, kind], i): Value => {
        const tensor = value(`n${n}.${i}`, type, shape);
        return kind === 0 ? { ...tensor, sequence: true } : tensor;
      });
      known.push(...outputs);
      const written = skipFirst ? [value('', 'float32', []), ...outputs] : outputs;
      return { op: `Op${n}`, domain, name: `node${n}`, inputs: read, outputs: written, attributes: { ...named } };
    });
    return { name: 'random', inputs: inputValues, outputs: known.slice(-1), initializers, nodes: built };
  });

describe('writing and reading an ONNX file', () => {
  it('come back as the graph that was written', async () => {
    const directory = fresh();
    const path = join(directory, 'model.onnx');
    await fc.assert(
      fc.asyncProperty(graphs, async (graph) => {
        await writeModel(graph, path);
        const back = await readModel(path);
        assert.deepEqual(resolved(back), resolved(graph));
        const first = readFileSync(path);
        await writeModel(graph, path);
        assert.deepEqual(readFileSync(path), first, 'the same graph gives the same bytes');
      }),
      { numRuns: 60 },
    );
    assert.deepEqual(readdirSync(directory).sort(), ['model.data', 'model.onnx'], 'no partial file stays');
  });
});

describe('string tensors', () => {
  it('pack and unpack', () => {
    fc.assert(
      fc.property(fc.array(fc.string({ unit: 'grapheme' })), (strings) => {
        assert.deepEqual(decodeStrings(encodeStrings(strings)), strings);
      }),
    );
    assert.throws(() => decodeStrings(encodeStrings(['abc']).subarray(0, 6)), RangeError);
  });
});
