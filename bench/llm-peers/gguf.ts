/**
 * A GGUF file (version 3, https://github.com/ggml-org/ggml/blob/master/docs/gguf.md) of a GPT-NeoX checkpoint, for llama.cpp: matrices as
 * F32, Q8_0 or Q4_0 (all of them, the vocabulary's too), norms and biases as F32, a tokenizer of made-up words.
 */
import { open, type FileHandle } from 'node:fs/promises';
import { causalSpecOf } from '../../libs/models/causal-lm.js';
import type { Checkpoint } from '../../libs/models/checkpoint.js';
import { readTensor } from '../../libs/models/safetensors.js';
import { blockBytes, quantiseRows, type BlockFormat } from './ggml-blocks.js';

/** How matrices are stored. */
export type MatrixFormat = 'F32' | BlockFormat;

/** ggml_type. */
const typeNumbers: Readonly<Record<MatrixFormat, number>> = { F32: 0, Q4_0: 2, Q8_0: 8 };
/** gguf_type. */
const kinds = { uint32: 4, float32: 6, bool: 7, string: 8, array: 9, int32: 5 } as const;
const alignment = 32;

interface GgufTensor {
  readonly name: string;
  /** Row major, the last dimension is the fastest. */
  readonly shape: readonly number[];
  readonly format: MatrixFormat;
  readonly values: () => Promise<Float32Array>;
}

type Field = readonly [
  key: string,
  kind: keyof typeof kinds,
  value: number | boolean | string | readonly (string | number)[],
];

/** Writes the file. Its activation is ggml's GELU (the tanh approximation): the checkpoint's should be `gelu_new`. */
export async function writeGguf(file: string, checkpoint: Checkpoint, format: MatrixFormat): Promise<void> {
  const tensors = tensorsOf(checkpoint, format);
  const fields = fieldsOf(checkpoint);
  const head: Buffer[] = [Buffer.from('GGUF'), uint32(3), uint64(tensors.length), uint64(fields.length)];
  for (const [key, kind, value] of fields) head.push(string(key), uint32(kinds[kind]), encoded(kind, value));
  let offset = 0;
  for (const tensor of tensors) {
    const { name, shape } = tensor;
    const extents = [...shape].reverse().map(uint64);
    head.push(string(name), uint32(shape.length), ...extents, uint32(typeNumbers[tensor.format]), uint64(offset));
    offset += padded(sizeOf(tensor));
  }
  const bytes = Buffer.concat(head);
  const handle = await open(file, 'w');
  try {
    await append(handle, bytes);
    for (const tensor of tensors) await append(handle, await dataOf(tensor));
  } finally {
    await handle.close();
  }
}

function tensorsOf(checkpoint: Checkpoint, format: MatrixFormat): GgufTensor[] {
  const spec = causalSpecOf(checkpoint);
  const { prefix, hidden, headWidth } = spec;
  const tensors: GgufTensor[] = [];
  const put = (name: string, source: string, change = (values: Float32Array) => values): void => {
    const location = checkpoint.tensors.get(source)!;
    tensors.push({
      name,
      shape: location.shape,
      format: location.shape.length === 2 ? format : 'F32',
      values: async () => change(await readTensor(location)),
    });
  };
  const both = (name: string, source: string, change?: (values: Float32Array) => Float32Array): void => {
    put(`${name}.weight`, `${source}.weight`, change);
    put(`${name}.bias`, `${source}.bias`, change);
  };
  put('token_embd.weight', `${prefix}.embed_in.weight`);
  for (const [block, { heads }] of spec.blocks.entries()) {
    const [to, from] = [`blk.${block}`, `${prefix}.layers.${block}`];
    both(`${to}.attn_norm`, `${from}.input_layernorm`);
    both(`${to}.attn_qkv`, `${from}.attention.query_key_value`, (values) => separated(values, heads, headWidth));
    both(`${to}.attn_output`, `${from}.attention.dense`);
    both(`${to}.ffn_norm`, `${from}.post_attention_layernorm`);
    both(`${to}.ffn_up`, `${from}.mlp.dense_h_to_4h`);
    both(`${to}.ffn_down`, `${from}.mlp.dense_4h_to_h`);
  }
  both('output_norm', `${prefix}.final_layer_norm`);
  put('output.weight', spec.tied ? `${prefix}.embed_in.weight` : 'embed_out.weight');
  if (hidden % 32 !== 0) throw new Error(`a row of ${hidden} does not fill blocks of 32`);
  return tensors;
}

/** Rows (numbers, of a bias) head by head (q, k, v) → all queries, all keys, all values. */
function separated(values: Float32Array, heads: number, headWidth: number): Float32Array {
  const part = values.length / (heads * 3);
  const result = new Float32Array(values.length);
  if (part % headWidth !== 0) throw new Error(`${values.length} numbers are not those of ${heads} heads`);
  for (let head = 0; head < heads; head++) {
    for (let which = 0; which < 3; which++) {
      const from = (head * 3 + which) * part;
      result.set(values.subarray(from, from + part), (which * heads + head) * part);
    }
  }
  return result;
}

function fieldsOf(checkpoint: Checkpoint): Field[] {
  const spec = causalSpecOf(checkpoint);
  const { heads, neurons } = spec.blocks[0]!;
  const words = Array.from({ length: spec.vocabulary }, (_, id) => `w${id}`);
  return [
    ['general.architecture', 'string', 'gptneox'],
    ['general.name', 'string', 'random'],
    ['gptneox.context_length', 'uint32', spec.context],
    ['gptneox.embedding_length', 'uint32', spec.hidden],
    ['gptneox.block_count', 'uint32', spec.blocks.length],
    ['gptneox.feed_forward_length', 'uint32', neurons],
    ['gptneox.attention.head_count', 'uint32', heads],
    ['gptneox.attention.layer_norm_epsilon', 'float32', spec.epsilon],
    ['gptneox.rope.dimension_count', 'uint32', spec.rotary.width],
    ['gptneox.rope.freq_base', 'float32', spec.rotary.base],
    ['gptneox.use_parallel_residual', 'bool', spec.parallelResidual],
    ['tokenizer.ggml.model', 'string', 'gpt2'],
    ['tokenizer.ggml.pre', 'string', 'gpt-2'],
    ['tokenizer.ggml.tokens', 'array', words],
    ['tokenizer.ggml.token_type', 'array', words.map(() => 1)],
    ['tokenizer.ggml.merges', 'array', ['w 0']],
    ['tokenizer.ggml.bos_token_id', 'uint32', 0],
    ['tokenizer.ggml.eos_token_id', 'uint32', 0],
  ];
}

function encoded(kind: keyof typeof kinds, value: Field[2]): Buffer {
  if (Array.isArray(value)) {
    const list = value as readonly (string | number)[];
    const of = typeof list[0] === 'string' ? 'string' : 'int32';
    return Buffer.concat([uint32(kinds[of]), uint64(list.length), ...list.map((each) => encoded(of, each))]);
  }
  switch (kind) {
    case 'string':
      return string(String(value));
    case 'bool':
      return Buffer.of(value ? 1 : 0);
    case 'float32': {
      const bytes = Buffer.alloc(4);
      bytes.writeFloatLE(Number(value));
      return bytes;
    }
    default:
      return uint32(Number(value));
  }
}

function sizeOf({ shape, format }: GgufTensor): number {
  const count = shape.reduce((a, b) => a * b, 1);
  return format === 'F32' ? 4 * count : (count / 32) * blockBytes[format];
}

async function dataOf(tensor: GgufTensor): Promise<Uint8Array> {
  const values = await tensor.values();
  if (tensor.format === 'F32') return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  return quantiseRows(values, tensor.format);
}

const padded = (bytes: number): number => Math.ceil(bytes / alignment) * alignment;

async function append(handle: FileHandle, bytes: Uint8Array): Promise<void> {
  const most = 1 << 30;
  for (let at = 0; at < bytes.length; at += most) await handle.appendFile(bytes.subarray(at, at + most));
  await handle.appendFile(Buffer.alloc(padded(bytes.length) - bytes.length));
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function uint64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

function string(value: string): Buffer {
  const text = Buffer.from(value);
  return Buffer.concat([uint64(text.length), text]);
}
