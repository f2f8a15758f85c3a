/**
 * The pruned network in pieces of fixed shapes, for one sample: between two stages nothing depends on the data but values. A piece ends with what a stage
 * decides (which pairs go, and what each costs), before anything is moved; the host then picks a count and the cheapest of these merges that lead to it
 * (rung.ts), the merge graph makes them, and the trunk of that count goes on. Nothing is computed twice, and a count that is what the stage decided gives what the whole graph gives.
 */
import type { Checkpoint } from '../../models/checkpoint.js';
import { buildClassifier } from '../../models/classifier.js';
import type { AtSeam, Seam, TokenLayout, Tokens } from '../../models/tokens.js';
import { checkpointWeights } from '../../models/weights.js';
import { internal, invalid } from '../../errors/error.js';
import { GraphBuilder } from '../../onnx/builder.js';
import type { Dim, Graph, Tensor, Value } from '../../onnx/ir.js';
import { cast, dimOf, reshape } from '../../onnx/ops/index.js';
import { tensorNames } from '../served-graph.js';
import { thresholdsOf, type BudgetTable } from '../stages/budget.js';
import { entering } from '../stages/entering.js';
import { packedTokens } from '../stages/outgoing.js';
import type { StageParameters } from '../stages/parameters.js';
import { scoreOf } from '../stages/scores/index.js';
import { decidePairs, movesOf } from '../stages/stage.js';

/** The names of the pieces' tensors, where they are not the served model's. */
export const pieceNames = {
  /** [n, D]: the residual stream; and its tokens' masses [1, 1, n]. */
  tokens: 'tokens',
  mass: 'mass',
  /** [n, D]: the tokens as they stand before the stage that was decided. */
  undecided: 'undecided',
  /** Of each matching, [1, 1, n]: the tokens that are to be merged away (bool), with whom (int64), and at which log cost. */
  merged: (matching: number) => `merged_${matching}`,
  partner: (matching: number) => `partner_${matching}`,
  cost: (matching: number) => `cost_${matching}`,
  mergedTokens: 'merged_tokens',
  mergedMass: 'merged_mass',
} as const;

/** A pruned model with what its ladder is made from. */
export interface LadderModel {
  readonly checkpoint: Checkpoint;
  readonly replaced: ReadonlyMap<string, Tensor>;
  readonly stages: readonly StageParameters[];
  readonly table: BudgetTable;
}

/** Throws INVALID_ARGUMENT for stages that drop or fuse tokens. */
export function checkMerging(stages: readonly StageParameters[]): void {
  const other = stages.find(({ rule }) => rule !== 'merge');
  if (stages.length === 0) throw invalid('ladder: the plan has no stages, expected tokens among its units');
  if (other) throw invalid(`ladder: policy ${other.score.policy} does not merge tokens, expected one that does`);
}

/** `pixel_values` [1, C, H, W] and `budget` [1, 1] → what the first stage decides. */
export function prefixGraph(model: LadderModel): Graph {
  return pieceGraph(model, undefined, 'ladder_prefix');
}

/** `tokens`, `mass` and `budget` → from the MLP after a stage, at `count` tokens, to what the next stage decides, or to `logits`. */
export function trunkGraph(model: LadderModel, stage: number, count: number): Graph {
  return pieceGraph(model, { stage, count }, `ladder_${stage}_${count}`);
}

function pieceGraph(
  { checkpoint, replaced, stages, table }: LadderModel,
  from: { readonly stage: number; readonly count: number } | undefined,
  name: string,
): Graph {
  const next = (from?.stage ?? -1) + 1;
  let outputs: Value[] | undefined;
  // What lies before the piece is left out of the graph again; what comes after its end as well.
  const atSeam = (parameters: StageParameters, stage: number): AtSeam => {
    return (g, seam) => {
      if (stage === from?.stage) return enteringTokens(g, seam, from.count);
      if (stage === next) outputs = decision(g, seam, parameters, stageThresholds(g, table, stages, stage));
      return seam.tokens;
    };
  };
  const atSeams = new Map(stages.map((parameters, stage) => [parameters.block, atSeam(parameters, stage)]));
  const weights = () => checkpointWeights(checkpoint, replaced);
  const { g, logits } = buildClassifier(checkpoint, { lowering: 'fused', batch: 1, atSeams, weights, name });
  return g.build(outputs ?? [g.named(tensorNames.logits, logits)], { pruneInputs: true });
}

/** The thresholds of one stage's matchings at the input `budget`. */
function stageThresholds(
  g: GraphBuilder,
  table: BudgetTable,
  stages: readonly StageParameters[],
  stage: number,
): readonly Value[] {
  const first = stages.slice(0, stage).reduce((sum, { matchings }) => sum + matchings, 0);
  const all = thresholdsOf(g, g.input(tensorNames.budget, 'float32', [1, 1]), table);
  return all.slice(first, first + stages[stage]!.matchings);
}

/** Tokens that come from outside, as a layout of one sample that has `count` of them. */
function enteringTokens(g: GraphBuilder, seam: Seam, count: Dim): Tokens {
  const { layout } = seam.tokens;
  const rows = g.input(pieceNames.tokens, 'float32', [count, seam.tokens.rows.shape[1]!]);
  return { rows, layout: ownLayout(g, layout, count) };
}

function ownLayout(g: GraphBuilder, layout: TokenLayout, count: Dim): TokenLayout {
  const mass = g.input(pieceNames.mass, 'float32', [1, 1, count]);
  const counted =
    typeof count === 'number'
      ? g.constant(count, [1, 1, 1])
      : reshape(g, cast(g, dimOf(g, mass, 2), g.float), [1, 1, 1]);
  return { ...layout, batch: 1, rows: count, longest: count, packed: { scattered: undefined, mass, count: counted } };
}

/** What a stage would merge: the host takes the cheapest of it that lead to a rung (rung.ts). */
function decision(g: GraphBuilder, seam: Seam, parameters: StageParameters, thresholds: readonly Value[]): Value[] {
  const from = entering(g, seam);
  const score = scoreOf(g, from, parameters.score, `stage_${parameters.block}`);
  if (score.kind !== 'pairs') throw internal(`stage_${parameters.block} scores tokens, a ladder is of pairs`);
  const { matchings } = decidePairs(g, from, score, parameters, thresholds);
  const decided = matchings.flatMap(({ merged, partner, cost }, at) => [
    g.named(pieceNames.merged(at), merged),
    g.named(pieceNames.partner(at), partner),
    g.named(pieceNames.cost(at), cost),
  ]);
  return [g.named(pieceNames.undecided, seam.tokens.rows), ...decided];
}

/**
 * `tokens` [n, D], `mass`, and of each matching `merged_k` and `partner_k` → `merged_tokens` [n − merges, D] and `merged_mass`. For any n; it has no
 * weights.
 */
export function mergeGraph({ checkpoint, stages, replaced }: LadderModel, stage: number): Graph {
  const { block, matchings } = stages[stage]!;
  // The layout and width of the model's own tokens.
  let whole: Tokens | undefined;
  const look: AtSeam = (_, seam) => (whole = seam.tokens);
  buildClassifier(checkpoint, {
    lowering: 'fused',
    batch: 1,
    atSeams: new Map([[block, look]]),
    weights: () => checkpointWeights(checkpoint, replaced),
  });
  const g = new GraphBuilder(`ladder_merge_${stage}`);
  const rows = g.input(pieceNames.tokens, 'float32', ['n', whole!.rows.shape[1]!]);
  const tokens: Tokens = { rows, layout: ownLayout(g, whole!.layout, 'n') };
  const from = entering(g, { block, tokens, queries: rows, keys: rows, heads: 1 });
  const chosen = Array.from({ length: matchings }, (_, at) => ({
    merged: g.input(pieceNames.merged(at), 'bool', [1, 1, 'n']),
    partner: g.input(pieceNames.partner(at), 'int64', [1, 1, 'n']),
  }));
  const merged = packedTokens(g, from, movesOf(g, from, chosen), { combine: 'mean' });
  return g.build([
    g.named(pieceNames.mergedTokens, merged.rows),
    g.named(pieceNames.mergedMass, merged.layout.packed!.mass),
  ]);
}
