/** What belongs to a version of a language model beside its graph, and what its manifest says of it. */
import { copyFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { openTokenizer } from '../../data/text/tokenizer.js';
import { invalid } from '../../errors/error.js';
import type { CausalSpec } from '../../models/architectures/gpt-neox.js';
import type { Checkpoint } from '../../models/checkpoint.js';
import { GENERATION_CONFIG_FILE, type GenerationConfig, readGenerationConfig } from '../../models/generation-config.js';
import type { GenerationNetwork } from '../../models/generation-graph.js';
import { blockedProducts } from '../../onnx/blocked-products.js';
import { writeModel } from '../../onnx/write.js';
import { MODEL_FILE } from '../../store/publish.js';
import { BLOCKED_MODEL_FILE } from '../../store/served-file.js';
import type { BitsChoice } from '../plan.js';
import { textCost } from './cost.js';
import type { TextPart } from '../../store/text-part.js';

/** The file of a checkpoint, and of a version, that holds its tokenizer. */
export const TOKENIZER_FILE = 'tokenizer.json';

/** A checkpoint's tokenizer and generation_config.json, checked. */
export interface TextFiles {
  readonly directory: string;
  readonly generation: GenerationConfig;
}

/**
 * Checks what a language model needs beside its weights. Throws NOT_FOUND without a tokenizer, INVALID_ARGUMENT where it, or
 * generation_config.json, does not fit the model, and for a tokenizer that is not byte-level.
 */
export async function readTextFiles(checkpoint: Checkpoint, { vocabulary }: CausalSpec): Promise<TextFiles> {
  const path = join(checkpoint.directory, TOKENIZER_FILE);
  const tokenizer = await openTokenizer(path);
  if (tokenizer.vocabulary > vocabulary)
    throw invalid(`${path}: ${tokenizer.vocabulary} tokens, expected at most the model's vocabulary of ${vocabulary}`);
  const generation = await readGenerationConfig(checkpoint);
  const beyond = [...generation.eos, ...(generation.bos === null ? [] : [generation.bos])].find(
    (id) => id >= vocabulary,
  );
  if (beyond !== undefined)
    throw invalid(`${checkpoint.directory}: token ${beyond} begins or ends a text, expected one below ${vocabulary}`);
  return { directory: checkpoint.directory, generation };
}

/**
 * Writes model.onnx, tokenizer.json and generation_config.json into a version's folder, and where it has products of float32 the same graph with
 * convolutions in their place (`servedModelFile` says for whom), which refers to the same weights.
 */
export async function writeTextArtefact(folder: string, network: GenerationNetwork, files: TextFiles): Promise<void> {
  const graph = network.g.build(network.outputs);
  await writeModel(graph, join(folder, MODEL_FILE));
  const blocked = blockedProducts(graph);
  if (blocked) await writeModel(blocked, join(folder, BLOCKED_MODEL_FILE));
  await copyFile(join(files.directory, TOKENIZER_FILE), join(folder, TOKENIZER_FILE));
  if (files.generation.file !== undefined) await writeFile(join(folder, GENERATION_CONFIG_FILE), files.generation.file);
}

export interface TextPartOptions {
  readonly stages?: readonly number[];
  readonly dense?: CausalSpec;
  readonly bits?: BitsChoice | undefined;
}

/**
 * What the manifest says of a language model.
 * @param stages blocks before which a token stage stands
 * @param dense the shape of version 1
 * @param bits of the quantised matrices
 */
export function textPartOf(
  { spec, caches }: Pick<GenerationNetwork, 'spec' | 'caches'>,
  { generation }: TextFiles,
  { stages = [], dense = spec, bits }: TextPartOptions = {},
): TextPart {
  const cost = textCost(spec, bits);
  return {
    tokenizer: TOKENIZER_FILE,
    context: spec.context,
    vocabulary: spec.vocabulary,
    bos: generation.bos,
    eos: [...generation.eos],
    caches: caches.map(({ heads, width }) => ({ heads, width })),
    stages: [...stages],
    parameters: { all: cost.parameters, blocks: cost.blockParameters, denseBlocks: textCost(dense).blockParameters },
    bytesPerToken: cost.bytes,
    ...(bits === undefined ? {} : { bits: cost.bits }),
    defaults: { ...generation.defaults },
  };
}
