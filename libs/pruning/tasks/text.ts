import { mkdir } from 'node:fs/promises';
import { bitMoves } from '../../curvature/bits.js';
import { divergenceSlopes } from '../../curvature/divergence-slopes.js';
import { curvatureFactors } from '../../curvature/factors.js';
import type { MatrixMove } from '../../curvature/matrix-moves.js';
import { meanSlopes } from '../../curvature/slopes.js';
import type { CausalSpec } from '../../models/architectures/gpt-neox.js';
import { causalSpecOf } from '../../models/causal-lm.js';
import type { Checkpoint } from '../../models/checkpoint.js';
import { buildGenerationGraph, type GenerationNetwork } from '../../models/generation-graph.js';
import { packAttention } from '../../models/packed-attention.js';
import { blockSize, quantisedBytes } from '../../models/quantisation/blocks.js';
import {
  quantisableMatrices,
  quantiseNetwork,
  uniformBits,
  type MatrixLayout,
} from '../../models/quantisation/network.js';
import { checkpointWeights, quantisedWeights, type Weights } from '../../models/weights.js';
import type { Tensor } from '../../onnx/ir.js';
import { loadGraph } from '../../runtime/load-graph.js';
import type { Session } from '../../runtime/runtime.js';
import { TEXT_GENERATION } from '../../store/manifest.js';
import type { TextPart } from '../../store/text-part.js';
import { causalLayout } from '../fixed/layout.js';
import { gatesWithout } from '../fixed/gates.js';
import { squaredNorms } from '../fixed/magnitudes.js';
import { nothingRemoved, removeUnits, type RemovedUnits } from '../fixed/remove.js';
import type { Opened } from '../job.js';
import { meanOf } from '../measure/measure.js';
import { writePredictors } from '../artefact.js';
import { resolveArrays, type BitsChoice, type FixedChoice, type Plan, type PredictorArrays } from '../plan.js';
import { promptOfWindow, type PromptStage } from '../prompt/parameters.js';
import { servedGeneration } from '../prompt/served-graph.js';
import { readTextFiles, textPartOf, writeTextArtefact } from '../text/artefact.js';
import { comparisonGraph } from '../text/comparison.js';
import { costWindow, isRead, textCost, unitFlops, unitParameters } from '../text/cost.js';
import { certifyingDocuments, type TextCalibration } from '../text/data.js';
import { gatedNetwork, plainNetwork } from '../text/network.js';
import { measureWindows, prepareWindows, type PreparedText } from '../text/windows.js';
import { fixedUnits, samplesOfTurn, type BitUnit, type PreparedPart, type PruningTask } from './task.js';

/** Heads and neurons of a language model. Losses are means over positions, and independent samples are documents. */
export function textTask(job: Opened<TextCalibration>): PruningTask {
  const { checkpoint, context, data, request } = job;
  const spec = causalSpecOf(checkpoint);
  const fit = { dataset: data.dataset, indices: data.parts.fit };
  const quietly = {
    ...context,
    progress: ({ done, total, unit }: { done: number; total: number; unit: string }) =>
      context.progress({ stage: 'plan', done, total, unit }),
  };
  return {
    blocks: spec.blocks.length,
    predictions: costWindow(spec),
    counted: { samples: 'documents', share: certifyingDocuments },
    units: (kinds) => fixedUnits(spec.blocks, kinds, (kind) => unitFlops(spec, kind, costWindow(spec))),
    factors: (kinds) => curvatureFactors(checkpoint, fit, { kinds, seed: request.seed }, quietly),
    divergence: (kinds, removed, turn) =>
      divergenceSlopes(
        checkpoint,
        { dataset: data.dataset, indices: samplesOfTurn(data.parts.fit, turn) },
        { kinds, removed },
        { ...context, progress: undefined },
      ),
    slopes: (kinds) => meanSlopes(checkpoint, fit, kinds, quietly),
    magnitudes: (kinds) => squaredNorms(checkpoint, causalLayout(spec), kinds),
    async byteUnits(kinds) {
      // What is not read costs nothing to keep.
      const moves = (await bitMoves(checkpoint, context.workDirectory)).filter(({ matrix }) => isRead(spec, matrix));
      const factors = await curvatureFactors(checkpoint, fit, { kinds, moves, seed: request.seed }, quietly);
      const units = fixedUnits(spec.blocks, kinds, (kind) => unitParameters(spec, kind) * bytesOfWeight);
      return { units, bits: bitUnits(spec, moves), bytes: textCost(spec).bytes, factors };
    },
    uniformBits: (bits) => Object.fromEntries(uniformBits(spec, bits)),
    prepare: (part) => preparePart(job, part),
    async write(directory, plan, arrays) {
      const { crossEntropy } = plan.certificate;
      const perplexity = crossEntropy && {
        dense: Math.exp(crossEntropy.dense),
        pruned: Math.exp(crossEntropy.pruned),
      };
      const text = await writePlannedText(directory, plan, checkpoint, arrays, context.workDirectory);
      const costPrompt = text.stages.length > 0 ? { costPrompt: promptOfWindow(data.dataset.positions) } : {};
      return { task: TEXT_GENERATION, text: { ...text, ...costPrompt }, perplexity: perplexity ?? null };
    },
  };
}

/** What each move saves: 8 bits against 32, 4 bits against 8. */
function bitUnits(spec: CausalSpec, moves: readonly MatrixMove[]): BitUnit[] {
  const sizes = new Map(quantisableMatrices(spec).map((matrix) => [matrix.name, matrix]));
  return moves.map(({ matrix, bits }) => {
    const { rows, columns } = sizes.get(matrix)!;
    const before = bits === 8 ? 4 * rows * columns : quantisedBytes(rows, columns, 8);
    return { matrix, bits, cost: before - quantisedBytes(rows, columns, bits) };
  });
}

/** Bytes of a weight among others of 8 bits: what heads and neurons save once bits have gone, and they go first. */
const bytesOfWeight = quantisedBytes(1, blockSize, 8) / blockSize;

/** The network that a plan makes of a language model (float32), as it is served. Pure: the same plan gives the same graph. */
export async function applyTextPlan(
  plan: Pick<Plan, 'removed' | 'tokens'>,
  checkpoint: Checkpoint,
  arrays: PredictorArrays,
  workDirectory: string,
): Promise<GenerationNetwork> {
  const weights = await textWeights(checkpoint, plan.removed, 'generation', workDirectory);
  if (!plan.tokens) return buildGenerationGraph(checkpoint, { weights: () => weights });
  const stages = resolveArrays<PromptStage>(plan.tokens.stages, arrays);
  return servedGeneration(checkpoint, () => weights, stages, plan.tokens.table).network;
}

/** Writes the model of a plan and what belongs to it into a folder. */
export async function writePlannedText(
  directory: string,
  plan: Pick<Plan, 'removed' | 'tokens'>,
  checkpoint: Checkpoint,
  arrays: PredictorArrays,
  workDirectory: string,
): Promise<TextPart> {
  const dense = causalSpecOf(checkpoint);
  const files = await readTextFiles(checkpoint, dense);
  const network = await applyTextPlan(plan, checkpoint, arrays, workDirectory);
  await writeTextArtefact(directory, network, files);
  if (arrays.size > 0) await writePredictors(directory, arrays);
  const stages = plan.tokens?.stages.map(({ block }) => block) ?? [];
  return textPartOf(network, files, { stages, dense, bits: plan.removed?.bits });
}

/** The tensors of a language model that removing units makes smaller. */
export async function textTensors(
  checkpoint: Checkpoint,
  removed: RemovedUnits | null,
): Promise<ReadonlyMap<string, Tensor>> {
  return removed ? removeUnits(checkpoint, causalLayout(causalSpecOf(checkpoint)), removed) : new Map();
}

/** The weights that a choice leaves, for whole sequences or for generation. What is written lies in `workDirectory`. */
export async function textWeights(
  checkpoint: Checkpoint,
  choice: FixedChoice | null,
  layout: MatrixLayout,
  workDirectory: string,
): Promise<Weights> {
  await mkdir(workDirectory, { recursive: true });
  const replaced = await textTensors(checkpoint, choice);
  const tensors = layout === 'generation' ? await packAttention(checkpoint, workDirectory, replaced) : replaced;
  const weights = checkpointWeights(checkpoint, tensors);
  if (!choice?.bits) return weights;
  const bits = new Map(Object.entries(choice.bits));
  return quantisedWeights(weights, await quantiseNetwork(checkpoint, bits, { workDirectory, layout, replaced }));
}

/** Reads the windows of a part and runs the unpruned model on them. */
async function preparePart(
  { checkpoint, context, data }: Opened<TextCalibration>,
  part: 'search' | 'certify',
): Promise<PreparedPart> {
  const { runtime, workDirectory, signal } = context;
  const spec = causalSpecOf(checkpoint);
  const { positions } = data.dataset;
  const weights = () => checkpointWeights(checkpoint);
  const indices = data.parts[part];
  const dense = await loadGraph(runtime, plainNetwork(checkpoint, positions, weights), workDirectory);
  let text: PreparedText;
  try {
    text = await prepareWindows(data.dataset, indices, dense, spec, {
      signal,
      progress: (done) => context.progress({ stage: part, done, total: indices.length, unit: 'windows' }),
    });
  } finally {
    await dense.dispose();
  }
  const openComparison = (bits: BitsChoice | undefined, pruned: Weights) => {
    const own = bits && headNames(spec).some((name) => name in bits) ? pruned : undefined;
    return loadGraph(runtime, comparisonGraph(spec, weights(), own), workDirectory);
  };
  return {
    async openGated(bits) {
      const unpruned = { ...nothingRemoved(spec.blocks.length), ...(bits ? { bits } : {}) };
      const left = await textWeights(checkpoint, unpruned, 'checkpoint', workDirectory);
      const [network, comparison] = await openBoth(
        () =>
          loadGraph(
            runtime,
            gatedNetwork(checkpoint, positions, () => left),
            workDirectory,
          ),
        () => openComparison(bits, left),
      );
      return {
        async measure(removed, left) {
          const feeds = (size: number) => gatesWithout(spec.blocks, removed, size, left);
          const { kl, weights } = await measureWindows(network, comparison, text, feeds, signal);
          return meanOf(kl, weights);
        },
        async dispose() {
          await Promise.all([network.dispose(), comparison.dispose()]);
        },
      };
    },
    async measure(choice) {
      const left = await textWeights(checkpoint, choice, 'checkpoint', workDirectory);
      const [network, comparison] = await openBoth(
        () =>
          loadGraph(
            runtime,
            plainNetwork(checkpoint, positions, () => left),
            workDirectory,
          ),
        () => openComparison(choice?.bits, left),
      );
      try {
        const losses = await measureWindows(network, comparison, text, () => ({}), signal);
        return { losses, flops: textCost(causalSpecOf(checkpoint, left)).flops };
      } finally {
        await Promise.all([network.dispose(), comparison.dispose()]);
      }
    },
  };
}

/** What makes the logits: the vocabulary's own matrix, or the embeddings'. */
function headNames({ tied, prefix }: CausalSpec): string[] {
  return tied ? [`${prefix}.embed_in.weight`] : ['embed_out.weight'];
}

/** Two sessions, or neither. */
async function openBoth(
  first: () => Promise<Session>,
  second: () => Promise<Session>,
): Promise<readonly [Session, Session]> {
  const opened = await first();
  try {
    return [opened, await second()];
  } catch (error) {
    await opened.dispose();
    throw error;
  }
}
