import type { Checkpoint } from '../../models/checkpoint.js';
import {
  buildGenerationGraph,
  type AtPromptSeam,
  type BlockCache,
  type GenerationNetwork,
} from '../../models/generation-graph.js';
import type { Weights } from '../../models/weights.js';
import type { GraphBuilder } from '../../onnx/builder.js';
import type { Graph, Value } from '../../onnx/ir.js';
import { concat, reshape, slice } from '../../onnx/ops/index.js';
import { thresholdsOf, type BudgetTable } from '../stages/budget.js';
import type { PromptStage } from './parameters.js';
import { promptStage, type PromptStageResult } from './stage.js';

/** Names of the tensors that stages add to a generation graph. */
export const promptNames = {
  budget: 'budget',
  thresholds: 'thresholds',
  kept: 'tokens_kept',
  score: (stage: number) => `score_${stage}`,
} as const;

export interface ServedGeneration {
  /** Its outputs are those of the generation graph and of the stages. */
  readonly network: GenerationNetwork;
  readonly graph: Graph;
  readonly caches: readonly BlockCache[];
}

/**
 * The generation graph with stages that drop tokens of a prompt: further inputs and outputs are `budget` float32 [B, 1], nats, and
 * `tokens_kept` int32 [B, stages], the tokens of this run that each stage let on.
 */
export function servedGeneration(
  checkpoint: Checkpoint,
  weights: (g: GraphBuilder) => Weights,
  stages: readonly PromptStage[],
  table: BudgetTable,
): ServedGeneration {
  return staged(checkpoint, weights, stages, (g) =>
    thresholdsOf(g, g.input(promptNames.budget, 'float32', ['B', 1]), table).map((each) => reshape(g, each, ['B', 1])),
  );
}

/** As the served graph, but with `thresholds` [B, stages] as an input, and the stages' scores `score_k` as outputs: to calibrate with. */
export function measuredGeneration(
  checkpoint: Checkpoint,
  weights: (g: GraphBuilder) => Weights,
  stages: readonly PromptStage[],
): ServedGeneration {
  const thresholds = (g: GraphBuilder) => {
    const all = g.input(promptNames.thresholds, 'float32', ['B', stages.length]);
    return stages.map((_, at) => slice(g, all, 1, at, at + 1));
  };
  return staged(checkpoint, weights, stages, thresholds, (g, outcomes) =>
    outcomes.map(({ score }, stage) => g.named(promptNames.score(stage), score)),
  );
}

function staged(
  checkpoint: Checkpoint,
  weights: (g: GraphBuilder) => Weights,
  stages: readonly PromptStage[],
  thresholds: (g: GraphBuilder) => readonly Value[],
  more: (g: GraphBuilder, outcomes: readonly PromptStageResult[]) => readonly Value[] = () => [],
): ServedGeneration {
  const outcomes: PromptStageResult[] = [];
  const atSeams = (g: GraphBuilder) => {
    const given = thresholds(g);
    return new Map<number, AtPromptSeam>(
      stages.map((stage, at) => [
        stage.block,
        (_, seam) => {
          const outcome = promptStage(g, seam, stage, given[at]!);
          outcomes.push(outcome);
          return outcome.tokens;
        },
      ]),
    );
  };
  const open = buildGenerationGraph(checkpoint, { weights, atSeams });
  const { g, caches } = open;
  const kept = concat(
    g,
    outcomes.map((outcome) => outcome.kept),
    1,
  );
  const outputs = [...open.outputs, g.named(promptNames.kept, kept), ...more(g, outcomes)];
  return { network: { ...open, outputs }, graph: g.build(outputs), caches };
}
