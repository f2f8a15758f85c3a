import { z } from 'zod';
import { invalid } from '../../errors/error.js';
import type { Checkpoint } from '../checkpoint.js';
import type { Weights } from '../weights.js';

/** What tells one vision transformer of Hugging Face from another; everything else is written once. */
export interface VisionFamily {
  /** Of the names of its weights: `vit`, `deit`. */
  readonly prefix: string;
  /** Learned tokens before the patches, in order, by the last part of their weights' names. */
  readonly specialTokens: readonly string[];
  /** Classifiers, each reading one special token; the logits are their mean. */
  readonly classifiers: readonly { readonly name: string; readonly token: number }[];
}

/** One block's own sizes; pruning may have made them uneven. */
export interface BlockShape {
  readonly heads: number;
  readonly neurons: number;
}

/** A vision transformer as numbers, read from its config and the shapes of its weights. */
export interface ClassifierSpec {
  readonly architecture: string;
  readonly family: VisionFamily;
  readonly image: { readonly height: number; readonly width: number; readonly channels: number };
  readonly patch: { readonly height: number; readonly width: number };
  /** Tokens at the entry of the first block, special ones included. */
  readonly tokens: number;
  readonly special: number;
  readonly hidden: number;
  /** Width of one head. */
  readonly headWidth: number;
  readonly blocks: readonly BlockShape[];
  readonly classes: number;
  readonly epsilon: number;
  /** Whether queries, keys and values have biases; all other linear layers have them. */
  readonly qkvBias: boolean;
}

// Far above any model that fits a machine, and low enough that nothing overflows before the weights' shapes are compared.
const size = z.int().positive().max(1_048_576);
const side = z.int().positive().max(16_384);
const extent = z.union([side, z.tuple([side, side])], { error: 'expected a whole number from 1 to 16384, or two' });
// The defaults are those of transformers' ViTConfig and DeiTConfig.
const configSchema = z.looseObject({
  hidden_size: size.default(768),
  num_hidden_layers: size.default(12),
  num_attention_heads: size.default(12),
  intermediate_size: size.default(3072),
  hidden_act: z.string().default('gelu'),
  layer_norm_eps: z.number().positive().default(1e-12),
  image_size: extent.default(224),
  patch_size: extent.default(16),
  num_channels: size.default(3),
  qkv_bias: z.boolean().default(true),
});

/** Reads a spec; throws INVALID_ARGUMENT naming the field of config.json or the tensor, and what was expected. */
export function readSpec(checkpoint: Checkpoint, family: VisionFamily, weights: Weights): ClassifierSpec {
  const file = `${checkpoint.directory}/config.json`;
  const parsed = configSchema.safeParse(checkpoint.config);
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    throw invalid(`${file}: ${issue.path.join('.')}: ${issue.message}`);
  }
  const config = parsed.data;
  const [height, width] = pair(config.image_size);
  const patch = pair(config.patch_size);
  if (config.hidden_act !== 'gelu') {
    throw invalid(`${file}: hidden_act: ${config.hidden_act}, expected gelu (the exact one)`);
  }
  if (height % patch[0] || width % patch[1]) {
    throw invalid(`${file}: patch_size: ${patch.join('×')} does not divide the image of ${height}×${width}`);
  }
  if (config.hidden_size % config.num_attention_heads) {
    throw invalid(`${file}: num_attention_heads: ${config.num_attention_heads} does not divide hidden_size ${config.hidden_size}`);
  }
  const layers = { stem: `${family.prefix}.encoder.layer.`, first: 'layernorm_before.weight' };
  checkLayers(checkpoint, layers, config.num_hidden_layers, config.hidden_size);
  const headWidth = config.hidden_size / config.num_attention_heads;
  const special = family.specialTokens.length;
  const blocks = Array.from({ length: config.num_hidden_layers }, (_, l): BlockShape => {
    const rowsOf = (part: string) => weights.dims(`${family.prefix}.encoder.layer.${l}.${part}.weight`)?.[0];
    const query = rowsOf('attention.attention.query') ?? config.hidden_size;
    return {
      // Where it does not fit, the weight's own check says what was expected.
      heads: query % headWidth ? config.num_attention_heads : query / headWidth,
      neurons: rowsOf('intermediate.dense') ?? config.intermediate_size,
    };
  });
  const classifier = `${family.classifiers[0]!.name}.weight`;
  const classes = weights.dims(classifier)?.[0];
  if (classes === undefined) {
    throw invalid(`${weights.source}: tensor ${classifier} is missing, expected [classes, ${config.hidden_size}]`);
  }
  if (checkpoint.labels.length > 0 && checkpoint.labels.length !== classes) {
    throw invalid(`${file}: id2label names ${checkpoint.labels.length} classes, expected the classifier's ${classes}`);
  }
  return {
    architecture: checkpoint.architecture,
    family,
    image: { height, width, channels: config.num_channels },
    patch: { height: patch[0], width: patch[1] },
    tokens: special + (height / patch[0]) * (width / patch[1]),
    special,
    hidden: config.hidden_size,
    headWidth,
    blocks,
    classes,
    epsilon: config.layer_norm_eps,
    qkvBias: config.qkv_bias,
  };
}

/** What the names of the layers' weights begin with, and the first one of a layer, [hidden]. */
interface LayerNames {
  readonly stem: string;
  readonly first: string;
}

/** Throws unless the layers that the tensors' names tell of are those that the config counts, neither fewer nor more. */
export function checkLayers(checkpoint: Checkpoint, { stem, first }: LayerNames, expected: number, hidden: number): void {
  const present = new Set<number>();
  for (const name of checkpoint.tensors.keys()) {
    if (name.startsWith(stem)) present.add(Number.parseInt(name.slice(stem.length), 10));
  }
  let count = 0;
  while (present.has(count)) count++;
  const file = `${checkpoint.directory}/config.json: num_hidden_layers: ${expected}`;
  if (count < expected) {
    const missing = `tensor ${stem}${count}.${first} is missing, expected [${hidden}]`;
    throw invalid(`${file}, but the weights have ${count} layers: ${missing}`);
  }
  if (present.size > expected) throw invalid(`${file}, but the weights have ${present.size} layers, expected all of them`);
}

const pair = (value: number | [number, number]): [number, number] =>
  typeof value === 'number' ? [value, value] : value;
