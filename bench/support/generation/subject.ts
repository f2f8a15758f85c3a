/** Language models with random weights in the shapes of Pythia, as they are served: a graph, its caches, what a token reads. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { byteTokenizerJson, endOfTextId } from '../../../libs/data/text/byte-tokenizer.js';
import { parseTokenizer } from '../../../libs/data/text/tokenizer.js';
import type { CausalSpec } from '../../../libs/models/architectures/gpt-neox.js';
import { causalSpecOf } from '../../../libs/models/causal-lm.js';
import { openCheckpoint, type Checkpoint } from '../../../libs/models/checkpoint.js';
import { buildGenerationGraph, type GenerationNetwork } from '../../../libs/models/generation-graph.js';
import { blockedProducts, hasBlockedConvolutions } from '../../../libs/onnx/blocked-products.js';
import { packAttention } from '../../../libs/models/packed-attention.js';
import type { Bits } from '../../../libs/models/quantisation/blocks.js';
import { quantiseNetwork, uniformBits } from '../../../libs/models/quantisation/network.js';
import { writeRandomCausalLm, type RandomCausalShape } from '../../../libs/models/testing/random-causal.js';
import { checkpointWeights, quantisedWeights } from '../../../libs/models/weights.js';
import { textCost } from '../../../libs/pruning/text/cost.js';
import { loadGraph } from '../../../libs/runtime/load-graph.js';
import type { Runtime, Session } from '../../../libs/runtime/runtime.js';
import { openEngine } from '../../../services/server/generation/continuous-engine.js';
import type { GenerationEngine } from '../../../services/server/generation/engine.js';
import type { GenerationModel } from '../../../services/server/generation/served-graph.js';
import { generationSchema, type GenerationSettings } from '../../../services/server/generation/settings.js';
import { vocabularyOf, type Vocabulary } from '../../../services/server/generation/vocabulary.js';

/** Bits of the weights; 32 is float32. */
export type WeightBits = 32 | Bits;

export interface Subject {
  readonly checkpoint: Checkpoint;
  readonly spec: CausalSpec;
  readonly bits: WeightBits;
  readonly network: GenerationNetwork;
  readonly workDirectory: string;
}

/** Writes a checkpoint and its tokenizer. */
export async function writeSubject(folder: string, shape: RandomCausalShape): Promise<Checkpoint> {
  await writeRandomCausalLm(folder, shape);
  await writeFile(join(folder, 'tokenizer.json'), wordTokenizerJson(shape.vocabulary));
  return openCheckpoint(folder);
}

/** The generation graph of a float32 checkpoint, at so many bits. */
export async function subjectOf(checkpoint: Checkpoint, bits: WeightBits, workDirectory: string): Promise<Subject> {
  await mkdir(workDirectory, { recursive: true });
  const spec = causalSpecOf(checkpoint);
  const packed = await packAttention(checkpoint, workDirectory);
  const plain = checkpointWeights(checkpoint, packed);
  const weights =
    bits === 32
      ? plain
      : quantisedWeights(
          plain,
          await quantiseNetwork(checkpoint, uniformBits(spec, bits), { workDirectory, layout: 'generation' }),
        );
  return {
    checkpoint,
    spec,
    bits,
    network: buildGenerationGraph(checkpoint, { weights: () => weights }),
    workDirectory,
  };
}

/** Bytes that a token reads which sees so many others: every weight (of the embeddings a row), and their keys and values. */
export function bytesOfToken({ spec, bits }: Pick<Subject, 'spec' | 'bits'>, seen: number): number {
  const choice = bits === 32 ? {} : Object.fromEntries(uniformBits(spec, bits));
  const cache = spec.blocks.reduce((sum, { heads }) => sum + 2 * 4 * heads * spec.headWidth * seen, 0);
  return textCost(spec, choice).bytes + cache;
}

export interface LoadedSubject {
  readonly session: Session;
  readonly model: GenerationModel;
  readonly vocabulary: Vocabulary;
  engine(settings?: Partial<GenerationSettings>): Promise<GenerationEngine>;
}

/** Loads the graph; the session is the caller's to dispose of. */
export async function loadSubject(runtime: Runtime, { spec, network, workDirectory }: Subject): Promise<LoadedSubject> {
  const graph = network.g.build(network.outputs);
  // As the server chooses (libs/store/served-file.ts).
  const blocked = hasBlockedConvolutions() ? blockedProducts(graph) : undefined;
  const session = await loadGraph(runtime, blocked ?? graph, workDirectory);
  const model: GenerationModel = {
    vocabulary: spec.vocabulary,
    context: spec.context,
    caches: network.caches.map(({ heads, width }) => ({ heads, width })),
    stages: [],
    convolves: blocked !== undefined,
    eosIds: [endOfTextId],
  };
  const vocabulary = vocabularyOf(parseTokenizer(wordTokenizerJson(spec.vocabulary), 'tokenizer.json'));
  return {
    session,
    model,
    vocabulary,
    engine: (settings = {}) =>
      openEngine({ session, model, vocabulary, settings: z.object(generationSchema).parse(settings) }),
  };
}

/** A tokenizer of bytes, all further tokens of which are made-up words: every id has a text, so that a stream tells of each as it comes. */
function wordTokenizerJson(vocabulary: number): string {
  const tokenizer = JSON.parse(byteTokenizerJson()) as { model: { vocab: Record<string, number> } };
  const { vocab } = tokenizer.model;
  const known = 1 + Math.max(...Object.values(vocab));
  for (let id = known; id < vocabulary; id++) vocab[`w${id}`] = id;
  return JSON.stringify(tokenizer);
}

/** A prompt of ids that have nothing to do with each other. */
export function promptOf(length: number, vocabulary: number, seed = 1): number[] {
  return Array.from({ length }, (_, i) => 300 + ((Math.imul(i + 1, 7919 + 2 * seed) >>> 0) % (vocabulary - 300)));
}
