import type { Checkpoint } from '../models/checkpoint.js';
import { buildClassifier, type Classifier } from '../models/classifier.js';
import { checkpointWeights } from '../models/weights.js';
import type { AtSeam } from '../models/tokens.js';
import type { GraphBuilder } from '../onnx/builder.js';
import type { Graph, Tensor, Value } from '../onnx/ir.js';
import { add, concat } from '../onnx/ops/index.js';
import { thresholdsOf, type BudgetTable } from './stages/budget.js';
import { mergeStage, type StageResult } from './stages/stage.js';
import type { StageParameters } from './stages/parameters.js';

/** The names of a served model's tensors. */
export const tensorNames = {
  pixels: 'pixel_values',
  budget: 'budget',
  thresholds: 'thresholds',
  logits: 'logits',
  kept: 'tokens_kept',
  cost: 'cost',
  candidates: (stage: number, matching: number) => `candidates_${stage}_${matching}`,
  groups: (stage: number) => `groups_${stage}`,
} as const;

/** Thresholds by stage and matching, [batch, 1] each, in a graph that is being built. */
type Thresholds = (g: GraphBuilder) => readonly Value[];

interface Staged {
  readonly classifier: Classifier;
  readonly stages: readonly StageResult[];
}

/** A fused network with merging stages. `replaced` holds the tensors from which heads or neurons were removed. */
function stagedClassifier(
  checkpoint: Checkpoint,
  replaced: ReadonlyMap<string, Tensor>,
  stages: readonly StageParameters[],
  thresholds: Thresholds,
  name: string,
): Staged {
  const outcomes: StageResult[] = [];
  let given: readonly Value[] | undefined;
  const atSeams = new Map<number, AtSeam>(
    stages.map((parameters, stage) => [
      parameters.block,
      (g, seam) => {
        given ??= thresholds(g);
        const first = stages.slice(0, stage).reduce((sum, { matchings }) => sum + matchings, 0);
        const outcome = mergeStage(g, seam, parameters, given.slice(first, first + parameters.matchings));
        outcomes.push(outcome);
        return outcome.tokens;
      },
    ]),
  );
  const weights = () => checkpointWeights(checkpoint, replaced);
  const classifier = buildClassifier(checkpoint, { lowering: 'fused', atSeams, weights, name });
  return { classifier, stages: outcomes };
}

/** Thresholds of all stages' matchings as one input [B, count], which calibration sets. */
function thresholdInput(count: number): Thresholds {
  return (g) => {
    const all = g.input(tensorNames.thresholds, 'float32', ['B', count]);
    return Array.from({ length: count }, (_, at) => column(g, all, at));
  };
}

function column(g: GraphBuilder, all: Value, at: number): Value {
  return g.emitOne({
    op: 'Slice',
    inputs: [all, g.integers([at]), g.integers([at + 1]), g.integers([1])],
    output: { type: all.type, shape: [all.shape[0]!, 1] },
  });
}

/** How many thresholds the stages take. */
export function thresholdCount(stages: readonly StageParameters[]): number {
  return stages.reduce((sum, { matchings }) => sum + matchings, 0);
}

/** The unpruned network as it is served: `pixel_values` → `logits`. */
export function denseGraph(checkpoint: Checkpoint): Graph {
  const { g, logits } = buildClassifier(checkpoint, { lowering: 'fused', name: 'dense' });
  return g.build([g.named(tensorNames.logits, logits)]);
}

/** The pruned network as it is served: `pixel_values` and `budget` → `logits` and `tokens_kept` [B, stages]. */
export function servedGraph(
  checkpoint: Checkpoint,
  replaced: ReadonlyMap<string, Tensor>,
  stages: readonly StageParameters[],
  table: BudgetTable | undefined,
): Graph {
  if (stages.length === 0 || !table) {
    const weights = () => checkpointWeights(checkpoint, replaced);
    const { g, logits } = buildClassifier(checkpoint, { lowering: 'fused', weights, name: 'pruned' });
    return g.build([g.named(tensorNames.logits, logits)]);
  }
  const budgetThresholds: Thresholds = (g) => thresholdsOf(g, g.input(tensorNames.budget, 'float32', ['B', 1]), table);
  const { classifier, stages: outcomes } = stagedClassifier(checkpoint, replaced, stages, budgetThresholds, 'pruned');
  return outputsOf(classifier, outcomes, []);
}

/**
 * As the served graph, but with `thresholds` as an input, and with the summed predicted cost of what was merged, `cost` [B, 1]: what
 * calibration measures with.
 */
export function measuredGraph(
  checkpoint: Checkpoint,
  replaced: ReadonlyMap<string, Tensor>,
  stages: readonly StageParameters[],
): Graph {
  const input = thresholdInput(thresholdCount(stages));
  const { classifier, stages: outcomes } = stagedClassifier(checkpoint, replaced, stages, input, 'measured');
  if (outcomes.length === 0) return outputsOf(classifier, outcomes, []);
  const { g } = classifier;
  const cost = outcomes.map(({ summedCost }) => summedCost).reduce((sum, each) => add(g, sum, each));
  return outputsOf(classifier, outcomes, [g.named(tensorNames.cost, cost)]);
}

/** As the served graph, with what became of every token of the stages' entering layouts: outputs `groups_k` (for reports). */
export function explainedGraph(
  checkpoint: Checkpoint,
  replaced: ReadonlyMap<string, Tensor>,
  stages: readonly StageParameters[],
  table: BudgetTable,
): Graph {
  const budgetThresholds: Thresholds = (g) => thresholdsOf(g, g.input(tensorNames.budget, 'float32', ['B', 1]), table);
  const { classifier, stages: outcomes } = stagedClassifier(
    checkpoint,
    replaced,
    stages,
    budgetThresholds,
    'explained',
  );
  const groups = outcomes.map((outcome, stage) => classifier.g.named(tensorNames.groups(stage), outcome.groups));
  return outputsOf(classifier, outcomes, groups);
}

/**
 * Only as much of the network as one stage's decisions need: `pixel_values` and `thresholds` → the costs of what this stage's
 * matchings could merge, `candidates_s_m` [B, tokens], +∞ where there is nothing.
 */
export function candidatesGraph(
  checkpoint: Checkpoint,
  replaced: ReadonlyMap<string, Tensor>,
  stages: readonly StageParameters[],
  stage: number,
): Graph {
  const upTo = stages.slice(0, stage + 1);
  const input = thresholdInput(thresholdCount(stages));
  const { classifier, stages: outcomes } = stagedClassifier(checkpoint, replaced, upTo, input, `candidates_${stage}`);
  const { g } = classifier;
  const outputs = outcomes[stage]!.candidates.map((value, matching) =>
    g.named(tensorNames.candidates(stage, matching), value),
  );
  return g.build(outputs);
}

function outputsOf({ g, logits }: Classifier, outcomes: readonly StageResult[], more: readonly Value[]): Graph {
  if (outcomes.length === 0) return g.build([g.named(tensorNames.logits, logits)]);
  const kept = concat(
    g,
    outcomes.map((outcome) => outcome.kept),
    1,
  );
  return g.build([g.named(tensorNames.logits, logits), g.named(tensorNames.kept, kept), ...more]);
}
