/** Requests to ModelInfer that are protobuf, and nothing that anybody means well by. */
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { ModelInferRequest, type InferTensorContents } from '../../../proto/gen/open_inference_grpc.js';
import { encodeInfer, healthyModel, transformer, wellFormed } from './methods.js';
import type { Draw } from './random.js';

/** What may be answered: `refused` is INVALID_ARGUMENT, NOT_FOUND or RESOURCE_EXHAUSTED; `bearable` OK too. */
type Expected = 'refused' | 'bearable';

export interface HostileRequest {
  readonly name: string;
  readonly expected: Expected;
  make(draw: Draw): Uint8Array;
  /** Takes megabytes, and is sent seldom. */
  readonly large?: boolean;
}

type Fields = Parameters<typeof ModelInferRequest.fromPartial>[0];

/** The well-formed request with other fields. */
function changed(change: Fields): Uint8Array {
  return encodeInfer(ModelInferRequest.fromPartial({ ...wellFormed(), ...change }));
}

function withInput(input: object, raw: Uint8Array[] = wellFormed().rawInputContents): Uint8Array {
  const [first] = wellFormed().inputs;
  return changed({ inputs: [{ ...first, ...input }], rawInputContents: raw.map((bytes) => Buffer.from(bytes)) });
}

function typed(datatype: string, shape: bigint[], contents: Partial<InferTensorContents>): Uint8Array {
  return changed({ inputs: [{ name: 'pixel_values', datatype, shape, contents }], rawInputContents: [] });
}

const huge = (1n << 63n) - 1n;
const shapes: readonly bigint[][] = [
  [-1n, 3n, 8n, 8n],
  [huge, 3n, 8n, 8n],
  [-(1n << 63n), 3n, 8n, 8n],
  [1n << 32n, 1n << 32n, 0n, 1n],
  [1n, 0x7fffffffn, 0x7fffffffn, 0x7fffffffn],
  [0n, 3n, 8n, 8n],
  [1n << 31n, 3n, 8n, 8n],
  [65536n, 65536n, 65536n, 65536n],
  [],
  [1n],
  [192n],
  [1n, 3n, 64n],
  [1n, 3n, 8n, 8n, 1n],
  [3n, 1n, 8n, 8n],
  Array.from({ length: 40 }, () => 0x7fffffffn),
  [...Array.from({ length: 40 }, () => 0x7fffffffn), 0n],
];
const numbers = [NaN, Infinity, -Infinity] as const;
const names = [
  '',
  '../net',
  'net/../net',
  '/etc/passwd',
  'net\0',
  'net\n',
  'n'.repeat(200),
  'ñet',
  '😀'.repeat(100),
  '%s%n%x',
  '__proto__',
  'constructor',
  '..',
  '.',
  'net ',
] as const;
const versions = ['0', '-1', '1.0', '01', '1e0', '99999999999999999999', '٣', ' 1', 'latest', '1\0', '../1'] as const;

/** A request whose fields are written one by one. */
function written(write: (writer: BinaryWriter) => void): Uint8Array {
  const writer = new BinaryWriter();
  writer.tag(1, WireType.LengthDelimited).string(healthyModel);
  write(writer);
  return writer.finish();
}

/** So many fields of so few bytes that what they are decoded to is a hundred times as large. */
function manyOf(field: number, count: number): Uint8Array {
  const head = written(() => undefined);
  const tag = (field << 3) | WireType.LengthDelimited;
  return Buffer.concat([head, Buffer.alloc(2 * count, Buffer.from([tag, 0]))]);
}

/** One input with a packed field of `count` one-byte numbers. */
function packed(field: number, count: number, inContents: boolean): Uint8Array {
  return written((writer) => {
    writer.tag(5, WireType.LengthDelimited).fork();
    writer.tag(1, WireType.LengthDelimited).string('pixel_values');
    if (inContents) writer.tag(5, WireType.LengthDelimited).fork();
    writer.tag(field, WireType.LengthDelimited).bytes(Buffer.alloc(count, 1));
    if (inContents) writer.join();
    writer.join();
  });
}

const bytesInput = (raw: Uint8Array, shape: bigint[] = [1n, 1n]): Uint8Array =>
  withInput({ name: 'image', datatype: 'BYTES', shape }, [raw]);

const uint32 = (value: number): Buffer => {
  const buffer = Buffer.alloc(4);
  buffer.writeUInt32LE(value >>> 0);
  return buffer;
};

function refused(name: string, make: (draw: Draw) => Uint8Array, large = false): HostileRequest {
  return { name, expected: 'refused', make, ...(large ? { large } : {}) };
}

function bearable(name: string, make: (draw: Draw) => Uint8Array, large = false): HostileRequest {
  return { name, expected: 'bearable', make, ...(large ? { large } : {}) };
}

const million = 1_000_000;

export const hostileRequests: readonly HostileRequest[] = [
  refused('shape', (draw) => withInput({ shape: draw.pick(shapes) })),
  refused('shape of a million dimensions', () => withInput({ shape: Array.from({ length: million }, () => 1n) }), true),
  refused('contents too short or long', (draw) => withInput({}, [draw.bytes(draw.integer(0, 2000) | 1)])),
  refused('contents of no element', () => withInput({}, [new Uint8Array()])),
  refused('NaN and infinities', (draw) => {
    const values = new Float32Array(192);
    values[draw.integer(0, 191)] = draw.pick(numbers);
    return withInput({}, [new Uint8Array(values.buffer)]);
  }),
  bearable('greatest numbers', (draw) => {
    const value = draw.pick([3.4e38, -3.4e38, 1e-45]);
    return withInput({}, [new Uint8Array(new Float32Array(192).fill(value).buffer)]);
  }),
  refused('datatype', (draw) =>
    withInput({ datatype: draw.pick(['', 'fp32', 'FP16', 'BF16', 'UINT64', 'FLOAT', 'constructor', 'FP32\0']) }),
  ),
  refused('datatype of another size', (draw) => withInput({ datatype: draw.pick(['FP64', 'INT64', 'INT8', 'BOOL']) })),
  refused('datatype that is not the model’s', () => withInput({ datatype: 'INT32' })),
  refused('model name', (draw) => changed({ modelName: draw.pick(names) })),
  refused('model version', (draw) => changed({ modelVersion: draw.pick(versions) })),
  refused('input name', (draw) => withInput({ name: draw.pick(names) })),
  refused('output name', (draw) => changed({ outputs: [{ name: draw.pick(names) }] })),
  refused('output twice', () => changed({ outputs: [{ name: 'logits' }, { name: 'logits' }] })),
  refused('ten thousand outputs', () =>
    changed({ outputs: Array.from({ length: 10_000 }, (_, at) => ({ name: `o${at}` })) }),
  ),
  refused('input twice', () => {
    const { inputs, rawInputContents } = wellFormed();
    return changed({ inputs: [...inputs, ...inputs], rawInputContents: [...rawInputContents, ...rawInputContents] });
  }),
  refused('more contents than inputs', (draw) => {
    const contents = Array.from({ length: draw.integer(2, 50) }, () => Buffer.alloc(4));
    return changed({ rawInputContents: contents });
  }),
  refused('raw and typed contents', () => withInput({ contents: { fp32Contents: [1, 2, 3] } })),
  refused('typed contents of another type', () => typed('FP32', [1n, 3n, 8n, 8n], { int64Contents: [1n] })),
  refused('no inputs', () => changed({ inputs: [], rawInputContents: [] })),
  refused('long names', (draw) => {
    const long = draw.pick(['x', 'é', '😀', '\0', '\n', '\u202e']).repeat(draw.integer(1, 40_000));
    return draw.pick([
      () => withInput({ name: long, shape: [-1n] }),
      () => withInput({ datatype: long }),
      () => changed({ modelName: long }),
      () => changed({ modelVersion: long }),
      () => changed({ outputs: [{ name: long }] }),
      () => changed({ parameters: { [`triton_${long}`]: { boolParam: true } } }),
      () => changed({ parameters: { budget: { stringParam: long } } }),
    ])();
  }),
  refused('a name of a megabyte', () => withInput({ name: 'x'.repeat(million), shape: [-1n] }), true),
  bearable('id of a megabyte', () => changed({ id: 'x'.repeat(million) }), true),
  refused('budget', (draw) =>
    changed({
      modelVersion: '2',
      parameters: {
        budget: draw.pick([
          { doubleParam: -1 },
          { doubleParam: NaN },
          { doubleParam: Infinity },
          { doubleParam: 1e308 },
          { stringParam: 'much' },
          { stringParam: '' },
          { boolParam: true },
          { int64Param: -5n },
          {},
        ]),
      },
    }),
  ),
  refused('budget tensor', (draw) => {
    const { inputs, rawInputContents } = wellFormed();
    const values = draw.pick([[NaN], [-1], [Infinity], [1, 1]]);
    const budget = { name: 'budget', datatype: 'FP32', shape: [BigInt(values.length), 1n] };
    const raw = Buffer.from(new Float32Array(values).buffer);
    return changed({ modelVersion: '2', inputs: [...inputs, budget], rawInputContents: [...rawInputContents, raw] });
  }),
  refused('reserved parameters', (draw) =>
    changed({
      parameters: {
        [draw.pick(['triton_x', 'triton_', 'triton_final_response', 'triton_😀'])]: { boolParam: true },
      },
    }),
  ),
  refused('parameters of another type', (draw) =>
    changed({
      parameters: {
        [draw.pick(['priority', 'timeout', 'sequence_start', 'sequence_end', 'triton_enable_empty_final_response'])]:
          draw.pick([{ stringParam: '1' }, { doubleParam: 1 }, {}]),
      },
    }),
  ),
  bearable('parameters with names of JavaScript', (draw) =>
    changed({
      parameters: Object.fromEntries(
        ['__proto__', 'constructor', 'toString', 'hasOwnProperty', '', '\0']
          .filter(() => draw.chance(0.5))
          .map((name) => [name, { stringParam: 'x' }]),
      ),
    }),
  ),
  bearable('ten thousand parameters', () =>
    changed({
      parameters: Object.fromEntries(Array.from({ length: 10_000 }, (_, at) => [`p${at}`, { int64Param: 1n }])),
    }),
  ),
  refused('shared memory', () =>
    withInput({
      parameters: { shared_memory_region: { stringParam: '/dev/shm/x' }, shared_memory_offset: { int64Param: -1n } },
    }),
  ),
  refused('classification', (draw) =>
    changed({
      outputs: [
        {
          name: 'logits',
          parameters: {
            classification: draw.pick([{ int64Param: 0n }, { int64Param: -1n }, { stringParam: '1' }, {}]),
          },
        },
      ],
    }),
  ),
  bearable('classification of more than there are', () =>
    changed({ outputs: [{ name: 'logits', parameters: { classification: { int64Param: huge } } }] }),
  ),
  refused('BYTES whose lengths lie', (draw) => {
    const rest = draw.bytes(draw.integer(0, 40));
    const said = draw.pick([0xffffffff, 0x7fffffff, rest.length + 1, rest.length - 1]);
    return bytesInput(Buffer.concat([uint32(said), rest]));
  }),
  refused('BYTES of more elements than its shape', (draw) => bytesInput(Buffer.alloc(4 * draw.integer(2, 5000)))),
  refused('BYTES of a million images', () => bytesInput(Buffer.alloc(4 * million), [BigInt(million), 1n]), true),
  refused('batch beyond the limit', () => {
    const batch = 1000;
    const raw = new Uint8Array(new Float32Array(batch * 192).buffer);
    return withInput({ shape: [BigInt(batch), 3n, 8n, 8n] }, [raw]);
  }),
  refused('size of another model', () => changed({ modelName: transformer, modelVersion: '1' })),
  refused('nesting of groups', (draw) =>
    Buffer.concat([written(() => undefined), Buffer.alloc(draw.integer(1, 200_000), 0x7b)]),
  ),
  bearable('unknown fields', (draw) =>
    Buffer.concat([
      encodeInfer(wellFormed()),
      ...Array.from({ length: draw.integer(1, 2000) }, () => Buffer.from([0xfa, 0x3f, 1, 0])),
    ]),
  ),
  bearable('fields of another wire type', (draw) =>
    Buffer.concat([
      encodeInfer(wellFormed()),
      Buffer.from([(draw.integer(1, 7) << 3) | draw.integer(0, 5), ...draw.bytes(12)]),
    ]),
  ),
  refused('several values of a oneof', () =>
    changed({ parameters: { budget: { doubleParam: -1, stringParam: '1', boolParam: true } } }),
  ),
  refused('invalid UTF-8', (draw) => Buffer.from([0x0a, 6, 0xff, 0xfe, 0xc0, 0x80, 0xed, draw.pick([0xa0, 0x41])])),
  refused('a million inputs', () => manyOf(5, million), true),
  refused('thirty million inputs', () => manyOf(5, 30 * million), true),
  refused('thirty million outputs', () => manyOf(6, 30 * million), true),
  refused('thirty million contents', () => manyOf(7, 30 * million), true),
  refused('sixty million dimensions', () => packed(3, 60 * million, false), true),
  refused('sixty million 64-bit numbers', () => packed(3, 60 * million, true), true),
  refused('sixty million truths', () => packed(1, 60 * million, true), true),
  refused('beyond the largest message', () => Buffer.alloc(65 * 1024 * 1024, 0x0a), true),
];
