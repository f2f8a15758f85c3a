/** A small language model over bytes with random weights, and engines of it. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { byteTokenizerJson, byteVocabulary, endOfTextId } from '../../../../libs/data/text/byte-tokenizer.js';
import { parseTokenizer } from '../../../../libs/data/text/tokenizer.js';
import { buildCausalLm } from '../../../../libs/models/causal-lm.js';
import { type Checkpoint, openCheckpoint } from '../../../../libs/models/checkpoint.js';
import { generationGraph } from '../../../../libs/models/generation-graph.js';
import { packAttention } from '../../../../libs/models/packed-attention.js';
import { type RandomCausalShape, writeRandomCausalLm } from '../../../../libs/models/testing/random-causal.js';
import { checkpointWeights } from '../../../../libs/models/weights.js';
import type { PromptStage } from '../../../../libs/pruning/prompt/parameters.js';
import { servedGeneration } from '../../../../libs/pruning/prompt/served-graph.js';
import type { BudgetTable } from '../../../../libs/pruning/stages/budget.js';
import { loadGraph } from '../../../../libs/runtime/load-graph.js';
import { createRuntime, type Runtime, type RuntimeOptions, type Session } from '../../../../libs/runtime/runtime.js';
import { openEngine } from '../continuous-engine.js';
import type { GenerationEngine } from '../engine.js';
import type { EndEvent, GeneratedToken, GenerationEvent } from '../event.js';
import type { GenerationObserver } from '../observer.js';
import { greedy, type GenerationRequest } from '../request.js';
import type { GenerationModel } from '../served-graph.js';
import { generationSchema, type GenerationSettings } from '../settings.js';
import { type Vocabulary, vocabularyOf } from '../vocabulary.js';

export const smallShape: RandomCausalShape = {
  ...{ hidden: 48, layers: 3, heads: 3, intermediate: 96, vocabulary: byteVocabulary, context: 96 },
  blocks: [
    { heads: 3, neurons: 37 },
    { heads: 1, neurons: 96 },
    { heads: 2, neurons: 51 },
  ],
  seed: 5,
};

export interface SmallModel {
  readonly runtime: Runtime;
  readonly session: Session;
  readonly model: GenerationModel;
  readonly vocabulary: Vocabulary;
  engine(settings?: Partial<GenerationSettings>, observers?: readonly GenerationObserver[]): Promise<GenerationEngine>;
  /** Canonical logits behind each token of a sequence. */
  logits(ids: readonly number[]): Promise<Float32Array[]>;
  close(): Promise<void>;
}

/** @param stages of prompt tokens, with the budgets' table */
export async function smallModel(
  options: RuntimeOptions = { threads: 1 },
  stages?: { readonly stages: readonly PromptStage[]; readonly table: BudgetTable },
): Promise<SmallModel> {
  const shape = smallShape;
  const root = await mkdtemp(join(tmpdir(), 'heartwood-engine-'));
  const checkpoint = await openCheckpoint(await writeRandomCausalLm(join(root, 'model'), shape));
  const runtime = createRuntime(options);
  const packed = await packAttention(checkpoint, root);
  const weights = () => checkpointWeights(checkpoint, packed);
  const dense = generationGraph(checkpoint, { weights });
  const graph = stages ? servedGeneration(checkpoint, weights, stages.stages, stages.table).graph : dense;
  const session = await loadGraph(runtime, graph, root);
  const model: GenerationModel = {
    vocabulary: shape.vocabulary,
    context: shape.context,
    caches: dense.caches.map(({ heads, width }) => ({ heads, width })),
    stages: (stages?.stages ?? []).map(({ block }) => block),
    ...(stages ? { budget: 0, stageChunk: 8 } : {}),
    eosIds: [endOfTextId],
  };
  const vocabulary = vocabularyOf(parseTokenizer(byteTokenizerJson(), 'tokenizer.json'));
  return {
    ...{ runtime, session, model, vocabulary },
    engine: (settings = {}, observers = []) =>
      openEngine({
        ...{ session, model, vocabulary, observers },
        settings: z.object(generationSchema).parse({ prefillChunk: 8, ...settings }),
        report: (thrown) => {
          throw thrown;
        },
      }),
    logits: (ids) => canonicalLogits(checkpoint, runtime, root, ids),
    close: async () => {
      await vocabulary.close();
      await runtime.close();
      await rm(root, { recursive: true, force: true });
    },
  };
}

async function canonicalLogits(
  checkpoint: Checkpoint,
  runtime: Runtime,
  root: string,
  ids: readonly number[],
): Promise<Float32Array[]> {
  const { g, logits } = buildCausalLm(checkpoint, { lowering: 'canonical', positions: ids.length, batch: 1 });
  const session = await loadGraph(runtime, g.build([g.named('logits', logits)]), root);
  const data = BigInt64Array.from(ids, BigInt);
  const outputs = await session.run({ input_ids: { type: 'int64', dims: [1, ids.length], data } });
  await session.dispose();
  const all = outputs['logits']!.data as Float32Array;
  const width = all.length / ids.length;
  return ids.map((_, i) => all.slice(i * width, (i + 1) * width));
}

/** A request with what most tests do not care for. */
export function ask(prompt: GenerationRequest['prompt'], change: Partial<GenerationRequest> = {}): GenerationRequest {
  return { prompt, sampling: greedy, maxTokens: 12, ignoreEos: true, ...change };
}

export const never = new AbortController().signal;

export interface Generated {
  readonly text: string;
  readonly tokens: readonly GeneratedToken[];
  readonly ids: readonly number[];
  readonly pieces: readonly string[];
  readonly end: EndEvent;
}

/** Reads a stream to its end. */
export async function collect(events: AsyncIterable<GenerationEvent>): Promise<Generated> {
  const pieces: string[] = [];
  const tokens: GeneratedToken[] = [];
  let end: EndEvent | undefined;
  for await (const event of events) {
    if (end) throw new Error('an event behind the end');
    if (event.kind === 'end') end = event;
    else {
      pieces.push(event.text);
      tokens.push(...event.tokens);
    }
  }
  if (!end) throw new Error('a stream without an end');
  return { text: pieces.join(''), tokens, ids: tokens.map(({ id }) => id), pieces, end };
}
