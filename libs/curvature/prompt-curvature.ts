import { readTokens, type TextDataset } from '../data/text/dataset.js';
import { invalid } from '../errors/error.js';
import { buildCausalLm, causalSpecOf } from '../models/causal-lm.js';
import type { Checkpoint } from '../models/checkpoint.js';
import { outputSketch } from '../autodiff/hvp.js';
import type { Graph } from '../onnx/ir.js';
import { integerIn, randomFor } from '../data/random.js';
import { loadGraph } from '../runtime/load-graph.js';
import type { TensorValue } from '../runtime/tensor.js';
import type { CurvatureContext } from './estimate.js';
import { probeSession } from './probe-graph.js';
import { measureInShards, type OpenMeasurement } from './shards.js';
import { drawSigns } from './signs.js';

/** Windows of a dataset, by their indices. */
export interface TextSamples {
  readonly dataset: TextDataset;
  readonly indices: readonly number[];
}

export interface PromptCurvatureOptions {
  /** The blocks that tokens may be dropped before. */
  readonly blocks: readonly number[];
  /**
   * The first so many tokens of each window are its prompt; what follows is what the prompt is for. Default: drawn for each window between a
   * quarter and three quarters of it, so that nothing is learned of where prompts end.
   */
  readonly prompt?: number;
  /** Random pullbacks a window. Default 8. */
  readonly directions?: number;
  /** Windows of a run. Default 4. */
  readonly batch?: number;
  readonly seed?: number;
}

/** What second order says of dropping a prompt's tokens before one block. */
export interface PromptCurvature {
  readonly block: number;
  readonly hidden: number;
  readonly positions: number;
  readonly samples: number;
  /** Tokens of each window's prompt, [samples]. */
  readonly prompts: Int32Array;
  /** The document of each window, [samples]. */
  readonly documents: Int32Array;
  /** The residual vectors as they enter the block, [samples, positions, hidden]. */
  readonly x: Float32Array;
  /**
   * ∂²/∂m² of the KL summed over the predictions after the prompt, by the gate that masks a token as a key from this block on: twice what
   * second order says that dropping it costs, nats; 0 behind the prompt. [samples, positions]
   */
  readonly curvature: Float32Array;
}

const names = {
  direction: (probe: number) => `direction_${probe}`,
  product: (probe: number) => `product_${probe}`,
  entering: (block: number) => `entering_${block}`,
};

/**
 * The KL curvature of prompt tokens for what comes after the prompt: E (JᵀR r)² over random signs r on the logits of the prompt's last token
 * and those after it, one pullback for the gates of all blocks. The checkpoint is float32. Throws INVALID_ARGUMENT where the prompt leaves
 * nothing of a window, CANCELLED.
 */
export async function promptCurvature(
  checkpoint: Checkpoint,
  { dataset, indices }: TextSamples,
  options: PromptCurvatureOptions,
  context: CurvatureContext,
): Promise<PromptCurvature[]> {
  const { blocks, directions = 8, seed = 0 } = options;
  const { positions } = dataset;
  const { hidden } = causalSpecOf(checkpoint);
  const batch = Math.min(options.batch ?? 4, indices.length);
  const prompts = Int32Array.from(indices, (index) => options.prompt ?? drawnPrompt(positions, seed, index));
  const wrong = prompts.find((prompt) => !(prompt >= 2 && prompt < positions));
  if (wrong !== undefined)
    throw invalid(`a prompt of ${wrong} of the ${positions} tokens of a window, expected 2 to ${positions - 1}`);
  const documents = new Int32Array(indices.length);
  const results = blocks.map((block) => ({
    block,
    hidden,
    positions,
    samples: indices.length,
    prompts,
    documents,
    x: new Float32Array(indices.length * positions * hidden),
    curvature: new Float32Array(indices.length * positions),
  }));
  const settled: SettledPrompts = { blocks, directions, batch, seed, prompt: options.prompt ?? null };
  const total = indices.length;
  const parts = measureInShards(
    {
      measurement: 'prompt-curvature',
      options: settled,
      indices,
      batch,
      tokens: positions,
      open: () => openPromptCurvature(checkpoint, dataset, settled, context),
    },
    { ...context, progress: (done) => context.progress?.({ stage: 'score', done, total, unit: 'windows' }) },
  );
  for await (const { start, part } of parts) {
    documents.set(part.documents, start);
    part.blocks.forEach(({ x, curvature }, at) => {
      results[at]!.x.set(x, start * positions * hidden);
      results[at]!.curvature.set(curvature, start * positions);
    });
  }
  return results;
}

/** Options as they are once the model and all windows are known: a shard needs no more. */
export interface SettledPrompts {
  readonly blocks: readonly number[];
  readonly directions: number;
  readonly batch: number;
  readonly seed: number;
  /** Tokens of a prompt; null: drawn. */
  readonly prompt: number | null;
}

/** What a shard of windows says: their documents, and by block what `PromptCurvature` says. */
export interface PromptPart {
  readonly documents: Int32Array;
  readonly blocks: readonly Pick<PromptCurvature, 'x' | 'curvature'>[];
}

/** A shard of `promptCurvature`. The checkpoint is float32. */
export async function openPromptCurvature(
  checkpoint: Checkpoint,
  dataset: TextDataset,
  options: SettledPrompts,
  { runtime, workDirectory }: Pick<CurvatureContext, 'runtime' | 'workDirectory'>,
): Promise<OpenMeasurement<PromptPart>> {
  const { blocks, directions, batch, seed } = options;
  const { positions } = dataset;
  const { hidden, vocabulary, blocks: shapes } = causalSpecOf(checkpoint);
  const units = shapes.length * positions;
  const graph = promptGraph(checkpoint, { blocks, positions, directions, batch });
  const session = await loadGraph(runtime, graph, workDirectory, probeSession);
  const masks: TensorValue = { type: 'float32', dims: [batch, units], data: new Float32Array(batch * units).fill(1) };
  const promptOf = (index: number) => options.prompt ?? drawnPrompt(positions, seed, index);
  /** Signs for the predictions after each prompt: its last token foretells the first one after it. */
  const directionOf = (indices: readonly number[], k: number): TensorValue => {
    const width = positions * vocabulary;
    const data = new Float32Array(batch * width);
    indices.forEach((index, slot) => {
      const first = (promptOf(index) - 1) * vocabulary;
      drawSigns(data.subarray(slot * width + first, (slot + 1) * width), seed, 0, index, k);
    });
    return { type: 'float32', dims: [batch, positions, vocabulary], data };
  };
  return {
    dispose: () => session.dispose(),
    async measure(indices, { signal, progress }) {
      const documents = new Int32Array(indices.length);
      const results = blocks.map(() => ({
        x: new Float32Array(indices.length * positions * hidden),
        curvature: new Float32Array(indices.length * positions),
      }));
      for (let start = 0; start < indices.length; start += batch) {
        const own = indices.slice(start, start + batch);
        const filled = Array.from({ length: batch }, (_, slot) => own[Math.min(slot, own.length - 1)]!);
        const read = await readTokens(dataset, filled);
        own.forEach((_, slot) => (documents[start + slot] = read.documents[slot]!));
        const feeds: Record<string, TensorValue> = {
          input_ids: { type: 'int64', dims: [batch, positions], data: read.ids },
          masks,
        };
        for (let k = 0; k < directions; k++) feeds[names.direction(k)] = directionOf(filled, k);
        const outputs = await session.run(feeds, signal ? { signal } : {});
        const of = (name: string) => outputs[name]!.data as Float32Array;
        results.forEach((result, stage) => {
          const x = of(names.entering(blocks[stage]!));
          own.forEach((index, slot) => {
            const at = start + slot;
            const size = positions * hidden;
            result.x.set(x.subarray(slot * size, (slot + 1) * size), at * size);
            for (let k = 0; k < directions; k++) {
              const gates = of(names.product(k)).subarray(slot * units + blocks[stage]! * positions);
              for (let t = 0; t < promptOf(index); t++)
                result.curvature[at * positions + t]! += gates[t]! ** 2 / directions;
            }
          });
        });
        progress?.(start + own.length);
      }
      return { documents, blocks: results };
    },
  };
}

function drawnPrompt(positions: number, seed: number, index: number): number {
  return integerIn(randomFor(seed, index, 11), Math.ceil(positions / 4), Math.floor((3 * positions) / 4));
}

function promptGraph(
  checkpoint: Checkpoint,
  options: Required<Pick<PromptCurvatureOptions, 'blocks' | 'directions' | 'batch'>> & {
    readonly positions: number;
  },
): Graph {
  const { blocks, positions, directions, batch } = options;
  const { g, gates, logits, entering, spec } = buildCausalLm(checkpoint, {
    lowering: 'canonical',
    positions,
    batch,
    gates: ['masks'],
    name: 'prompt-curvature',
  });
  const cotangents = Array.from({ length: directions }, (_, k) =>
    g.input(names.direction(k), g.float, [batch, positions, spec.vocabulary]),
  );
  const products = outputSketch(g, logits, [gates.get('masks')!.value], cotangents);
  return g.build([
    ...products.map(([product], k) => g.named(names.product(k), product!)),
    ...blocks.map((block) => g.named(names.entering(block), entering[block]!)),
  ]);
}
