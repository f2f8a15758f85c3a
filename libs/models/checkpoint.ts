import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, readFile, stat } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { z } from 'zod';
import { HeartwoodError, invalid, messageOf } from '../errors/error.js';
import { parsePreprocessing, type ImagePreprocessing } from './preprocessing.js';
import { readSafetensors, readTensor, writeSafetensors, type TensorLocation } from './safetensors.js';

/** A Hugging Face checkpoint folder, opened and checked; no weight is in memory. */
export interface Checkpoint {
  readonly directory: string;
  /** The class in config.json's `architectures`, or its `model_type` where there is none. */
  readonly architecture: string;
  readonly config: Readonly<Record<string, unknown>>;
  readonly tensors: ReadonlyMap<string, TensorLocation>;
  readonly preprocessing: ImagePreprocessing;
  /** Class names in the order of the logits; empty for a model that is no classifier. */
  readonly labels: readonly string[];
  /** SHA-256 over config.json and the tensor files. */
  readonly digest: string;
}

const extent = z.union([z.int().positive(), z.tuple([z.int().positive(), z.int().positive()])]);

const configSchema = z.looseObject({
  model_type: z.string({ error: 'expected a string such as "vit" or "deit"' }).min(1),
  architectures: z.array(z.string()).nullish(),
  image_size: extent.optional(),
  num_channels: z.union([z.literal(3), z.literal(1)], { error: 'expected 3 or 1' }).optional(),
  num_labels: z.int().positive().optional(),
  id2label: z.record(z.string(), z.string()).optional(),
  labels: z.array(z.string()).optional(),
});

/**
 * No parameters: what old versions of transformers saved beside GPT-NeoX's weights. The causal mask, its −10⁹ (in half precision −∞), and
 * the speeds of the rotary embedding, all of which follow from the config.
 */
const buffer = /\.attention\.(bias|masked_bias|rotary_emb\.inv_freq)$/;

/**
 * Opens a Hugging Face folder: config.json, preprocessor_config.json (or the defaults of transformers), and model.safetensors
 * or a sharded model.safetensors.index.json. Throws NOT_FOUND or INVALID_ARGUMENT with one line that names the file and field.
 */
export async function openCheckpoint(directory: string): Promise<Checkpoint> {
  const folder = resolve(directory);
  if (!(await isDirectory(folder))) {
    throw new HeartwoodError('NOT_FOUND', `${folder}: no such folder, expected a Hugging Face checkpoint`);
  }
  const configFile = join(folder, 'config.json');
  const json = await readJson(configFile);
  if (json === undefined) throw new HeartwoodError('NOT_FOUND', `${configFile}: missing, expected in a checkpoint`);
  const parsed = configSchema.safeParse(json);
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    throw invalid(`${configFile}: ${issue.path.join('.') || 'the whole'}: ${issue.message}`);
  }
  const config = parsed.data;
  const located = await locateTensors(folder);
  const tensors = new Map([...located].filter(([name]) => !buffer.test(name)));
  const [height, width] = typeof config.image_size === 'object' ? config.image_size : [config.image_size ?? 224];
  const processorFile = join(folder, 'preprocessor_config.json');
  return {
    directory: folder,
    architecture: config.architectures?.[0] ?? config.model_type,
    config,
    tensors,
    preprocessing: parsePreprocessing(await readJson(processorFile), processorFile, {
      modelType: config.model_type,
      imageSize: { height, width: width ?? height },
      channels: config.num_channels ?? 3,
    }),
    labels: labelsOf(config, tensors, configFile),
    digest: await digestOf([configFile, ...filesOf(located)]),
  };
}

function labelsOf(
  config: z.infer<typeof configSchema>,
  tensors: ReadonlyMap<string, TensorLocation>,
  file: string,
): string[] {
  // Without names, transformers calls them so; the classifier says how many there are.
  const count = config.num_labels ?? (tensors.get('classifier.weight') ?? tensors.get('cls_classifier.weight'))?.shape[0];
  const unnamed = config.labels ?? Array.from({ length: count ?? 0 }, (_, i) => `LABEL_${i}`);
  const named = config.id2label;
  if (named === undefined) return unnamed;
  return Array.from({ length: Object.keys(named).length }, (_, i) => {
    const label = Object.hasOwn(named, String(i)) ? named[String(i)] : undefined;
    if (label === undefined) throw invalid(`${file}: id2label has no entry "${i}", expected 0 to n − 1`);
    return label;
  });
}

async function locateTensors(folder: string): Promise<ReadonlyMap<string, TensorLocation>> {
  const single = join(folder, 'model.safetensors');
  if (await isFile(single)) return (await readSafetensors(single)).tensors;
  const indexFile = join(folder, 'model.safetensors.index.json');
  const index = await readJson(indexFile);
  if (index !== undefined) return locateSharded(folder, indexFile, index);
  const pickled = (await isFile(join(folder, 'pytorch_model.bin')))
    ? ' (pytorch_model.bin is not read: save the model anew with safe_serialization)'
    : '';
  throw new HeartwoodError(
    'NOT_FOUND',
    `${folder}: neither model.safetensors nor model.safetensors.index.json${pickled}`,
  );
}

const indexSchema = z.looseObject({ weight_map: z.record(z.string(), z.string()) });

async function locateSharded(folder: string, indexFile: string, index: unknown) {
  const parsed = indexSchema.safeParse(index);
  if (!parsed.success) throw invalid(`${indexFile}: weight_map: expected an object from tensor names to file names`);
  const shards = new Map<string, ReadonlyMap<string, TensorLocation>>();
  const tensors = new Map<string, TensorLocation>();
  for (const [name, shard] of Object.entries(parsed.data.weight_map)) {
    if (shard !== basename(shard) || shard.includes('\\') || !shard.endsWith('.safetensors')) {
      throw invalid(`${indexFile}: tensor ${name}: shard ${shard}, expected the name of a .safetensors file in the same folder`);
    }
    let inShard = shards.get(shard);
    if (inShard === undefined) {
      if (!(await isFile(join(folder, shard)))) throw invalid(`${indexFile}: shard ${shard} is missing`);
      inShard = (await readSafetensors(join(folder, shard))).tensors;
      shards.set(shard, inShard);
    }
    const location = inShard.get(name);
    if (location === undefined) throw invalid(`${indexFile}: tensor ${name} is not in its shard ${shard}`);
    tensors.set(name, location);
  }
  if (tensors.size === 0) throw invalid(`${indexFile}: weight_map is empty`);
  return tensors;
}

/**
 * The same checkpoint with every float tensor as float32. Half-precision (and double) weights are written anew, once, to a
 * safetensors file in `workDirectory`, named by the checkpoint's digest; those that are float32 stay references.
 */
export async function asFloat32(checkpoint: Checkpoint, workDirectory: string): Promise<Checkpoint> {
  const converted = [...checkpoint.tensors.values()].filter(({ type }) => /^(float16|bfloat16|float64)$/.test(type));
  if (converted.length === 0) return checkpoint;
  const file = resolve(workDirectory, `${checkpoint.digest.slice(0, 16)}-float32.safetensors`);
  if (!(await isFile(file))) {
    await mkdir(workDirectory, { recursive: true });
    await writeSafetensors(
      file,
      converted.map((location) => ({
        name: location.name,
        type: 'float32',
        shape: location.shape,
        bytes: async () => new Uint8Array((await readTensor(location)).buffer),
      })),
    );
  }
  const written = await readSafetensors(file);
  const tensors = new Map([...checkpoint.tensors].map(([name, old]) => [name, written.tensors.get(name) ?? old]));
  return { ...checkpoint, tensors };
}

/** Throws INVALID_ARGUMENT naming the first float tensor that holds a NaN or an infinity. */
export async function checkFinite(checkpoint: Checkpoint): Promise<void> {
  for (const location of checkpoint.tensors.values()) {
    if (!location.type.includes('float')) continue;
    const values = await readTensor(location);
    const at = values.findIndex((value) => !Number.isFinite(value));
    if (at >= 0) throw invalid(`${location.file}: tensor ${location.name} holds ${values[at]} at element ${at}, expected finite weights`);
  }
}

function filesOf(tensors: ReadonlyMap<string, TensorLocation>): string[] {
  return [...new Set([...tensors.values()].map(({ file }) => file))].sort();
}

/** SHA-256 over the SHA-256 of every file, in order. */
async function digestOf(files: readonly string[]): Promise<string> {
  const all = createHash('sha256');
  for (const file of files) {
    const one = createHash('sha256');
    await pipeline(createReadStream(file, { highWaterMark: 1 << 20 }), one);
    all.update(one.digest());
  }
  return all.digest('hex');
}

async function readJson(file: string): Promise<unknown> {
  let text: string;
  try {
    // Decoded so, it loses the byte order mark that some editors put before a text.
    text = new TextDecoder().decode(await readFile(file));
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw invalid(`${file}: cannot be read: ${messageOf(cause)}`, cause);
  }
  try {
    return JSON.parse(text) as unknown;
  } catch (cause) {
    throw invalid(`${file}: not JSON: ${messageOf(cause).split('\n')[0]}`, cause);
  }
}

const isFile = async (path: string) => (await stat(path).catch(() => undefined))?.isFile() ?? false;
const isDirectory = async (path: string) => (await stat(path).catch(() => undefined))?.isDirectory() ?? false;
