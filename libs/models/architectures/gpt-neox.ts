import { z } from 'zod';
import { invalid } from '../../errors/error.js';
import type { Checkpoint } from '../checkpoint.js';
import type { Rotary } from '../layers/rotary.js';
import type { Weights } from '../weights.js';
import { checkLayers, type BlockShape } from './transformer.js';

/** Activations of the MLP: the exact GELU, its tanh approximation (Hendrycks & Gimpel 2016), ReLU. */
export const ACTIVATIONS = ['gelu', 'gelu-tanh', 'relu'] as const;
export type Activation = (typeof ACTIVATIONS)[number];

/** A causal language model as numbers, read from its config and the shapes of its weights. */
export interface CausalSpec {
  readonly architecture: string;
  /** Of the names of its weights: `gpt_neox`. */
  readonly prefix: string;
  readonly hidden: number;
  /** Width of one head. */
  readonly headWidth: number;
  readonly rotary: Rotary;
  /** x + attention(norm₁ x) + mlp(norm₂ x), rather than one after the other. */
  readonly parallelResidual: boolean;
  /** The logits' matrix is that of the embeddings. */
  readonly tied: boolean;
  readonly vocabulary: number;
  /** Positions that the model was made for. */
  readonly context: number;
  readonly epsilon: number;
  readonly activation: Activation;
  /** Whether attention's linear layers have biases; the MLP's have them. */
  readonly attentionBias: boolean;
  readonly blocks: readonly BlockShape[];
}

/** Positions that a model may have: the angles of each are part of its graph. GPT-NeoX models have 2,048, and those made for more have tens of thousands. */
const mostPositions = 262_144;

const size = wholeNumber(1, 1_048_576);
/** A message with what was found and what was expected. */
function wholeNumber(least: number, most: number) {
  const error = ({ input }: { input?: unknown }) =>
    `${input === undefined ? 'missing' : JSON.stringify(input)}, expected a whole number from ${least} to ${most}`;
  return z.int({ error }).min(least, { error }).max(most, { error });
}

const positive = z.number().positive();
const fraction = z.number().min(0).max(1);

const ropeSchema = z.looseObject({
  rope_type: z.string().optional(),
  type: z.string().optional(),
  rope_theta: positive.optional(),
  partial_rotary_factor: fraction.optional(),
});

/** By the names of transformers; its three tanh approximations are one function. */
const activationOf: Readonly<Record<string, Activation>> = {
  gelu: 'gelu',
  gelu_python: 'gelu',
  gelu_new: 'gelu-tanh',
  gelu_fast: 'gelu-tanh',
  gelu_pytorch_tanh: 'gelu-tanh',
  relu: 'relu',
};

// What the shapes hang on has to be there. The other defaults are those of transformers' GPTNeoXConfig.
const configSchema = z.looseObject({
  vocab_size: size,
  hidden_size: size,
  num_hidden_layers: size,
  num_attention_heads: size,
  intermediate_size: size,
  hidden_act: z.string().default('gelu'),
  // A token of a prompt and one that follows it.
  max_position_embeddings: wholeNumber(2, mostPositions),
  layer_norm_eps: positive.default(1e-5),
  use_parallel_residual: z.boolean().default(true),
  tie_word_embeddings: z.boolean().default(false),
  attention_bias: z.boolean().default(true),
  rotary_pct: fraction.optional(),
  partial_rotary_factor: fraction.optional(),
  rotary_emb_base: positive.optional(),
  rope_theta: positive.optional(),
  rope_scaling: ropeSchema.nullish(),
  rope_parameters: ropeSchema.nullish(),
});
type Config = z.infer<typeof configSchema>;

/**
 * GPTNeoXForCausalLM (Black et al. 2022, GPT-NeoX-20B; Biderman et al. 2023, Pythia). Throws INVALID_ARGUMENT naming the field of
 * config.json or the tensor, and what was expected.
 */
export function readGptNeox(checkpoint: Checkpoint, weights: Weights): CausalSpec {
  const file = `${checkpoint.directory}/config.json`;
  const parsed = configSchema.safeParse(checkpoint.config);
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    throw invalid(`${file}: ${issue.path.join('.')}: ${issue.message}`);
  }
  const config = parsed.data;
  const hidden = config.hidden_size;
  const activation = Object.hasOwn(activationOf, config.hidden_act) ? activationOf[config.hidden_act] : undefined;
  if (activation === undefined) {
    throw invalid(`${file}: hidden_act: ${config.hidden_act}, expected one of ${Object.keys(activationOf).join(', ')}`);
  }
  if (hidden % config.num_attention_heads) {
    throw invalid(`${file}: num_attention_heads: ${config.num_attention_heads} does not divide hidden_size ${hidden}`);
  }
  const prefix = 'gpt_neox';
  checkLayers(checkpoint, { stem: `${prefix}.layers.`, first: 'input_layernorm.weight' }, config.num_hidden_layers, hidden);
  const headWidth = hidden / config.num_attention_heads;
  const blocks = Array.from({ length: config.num_hidden_layers }, (_, l): BlockShape => {
    const rowsOf = (part: string) => weights.dims(`${prefix}.layers.${l}.${part}.weight`)?.[0];
    const projected = rowsOf('attention.query_key_value') ?? 3 * hidden;
    return {
      // Where it does not fit, the weight's own check says what was expected.
      heads: projected % (3 * headWidth) ? config.num_attention_heads : projected / (3 * headWidth),
      neurons: rowsOf('mlp.dense_h_to_4h') ?? config.intermediate_size,
    };
  });
  return {
    architecture: checkpoint.architecture,
    prefix,
    hidden,
    headWidth,
    rotary: rotaryOf(config, headWidth, file),
    parallelResidual: config.use_parallel_residual,
    tied: config.tie_word_embeddings,
    vocabulary: config.vocab_size,
    context: config.max_position_embeddings,
    epsilon: config.layer_norm_eps,
    activation,
    attentionBias: config.attention_bias,
    blocks,
  };
}

/** `rope_parameters` of transformers 5 wins over `rotary_pct` and `rotary_emb_base` of the versions before. */
function rotaryOf(config: Config, headWidth: number, file: string): Rotary {
  for (const field of ['rope_parameters', 'rope_scaling'] as const) {
    const type = config[field]?.rope_type ?? config[field]?.type ?? 'default';
    if (type !== 'default') throw invalid(`${file}: ${field}.rope_type: ${type}, expected default (positions as they are)`);
  }
  const { rope_parameters: rope } = config;
  const share = rope?.partial_rotary_factor ?? config.rotary_pct ?? config.partial_rotary_factor ?? 0.25;
  const base = rope?.rope_theta ?? config.rotary_emb_base ?? config.rope_theta ?? 10_000;
  const width = Math.trunc(headWidth * share);
  if (width % 2) {
    throw invalid(`${file}: rotary_pct: ${share} of a head of ${headWidth} is ${width}, expected an even number (pairs turn)`);
  }
  return { width, base };
}
