import { invalid } from '../../errors/error.js';
import { generationSymbols, type PromptSeam, type PromptTokens } from '../../models/generation-graph.js';
import type { GraphBuilder } from '../../onnx/builder.js';
import type { Value } from '../../onnx/ir.js';
import {
  add,
  biasGelu,
  cast,
  clip,
  compress,
  concat,
  cumSum,
  dimOf,
  div,
  equal,
  expandTo,
  gather,
  greaterOrEqual,
  layerNormalization,
  matMul,
  max,
  or,
  range,
  reshape,
  reshapeTo,
  scatterElements,
  shapeOf,
  squeeze,
  sub,
  unsqueeze,
} from '../../onnx/ops/index.js';
import { fixed } from '../../onnx/shapes.js';
import { floatTensor } from '../../onnx/tensor.js';
import { predictionBound, probeEpsilon } from '../stages/probe.js';
import type { PromptProbe, PromptStage } from './parameters.js';

/** What a stage did. */
export interface PromptStageResult {
  readonly tokens: PromptTokens;
  /** int32 [B, 1]: tokens of this run that go on. */
  readonly kept: Value;
  /** [B, S]: the predicted log curvature of the tokens that came in. */
  readonly score: Value;
}

/**
 * Drops the tokens of a prompt whose predicted curvature is below the threshold ([B, 1], log nats; −∞ keeps every token bit for bit), and
 * gathers the others. The first position of a sequence stays, and so do the tokens whose logits are asked for and those right before them
 * (`recent`); so a step that generates drops nothing. Several sequences at a time have one token each.
 */
export function promptStage(
  g: GraphBuilder,
  seam: PromptSeam,
  stage: PromptStage,
  threshold: Value,
): PromptStageResult {
  const { tokens, batch, block } = seam;
  const { batch: B } = generationSymbols;
  const score = scored(g, seam, stage.probe);
  const asked = cast(g, upToWanted(g, tokens, stage.recent), 'bool');
  const first = equal(g, tokens.positions, g.integers(0));
  const worthIt = or(g, greaterOrEqual(g, score, threshold), first);
  const rows = tokens.rows.shape[0]!;
  const keep = or(g, reshape(g, worthIt, [rows]), asked);
  const left = `kept_${block}`;
  const place = cumSum(g, cast(g, keep, 'int64'), 0);
  const positions = compress(g, reshape(g, tokens.positions, [rows]), keep, 0, `${B}·${left}`);
  const going: PromptTokens = {
    rows: compress(g, tokens.rows, keep, 0, `${B}·${left}`),
    positions: reshapeTo(g, positions, concat(g, [batch, g.integers([-1])], 0), [B, left]),
    wanted: sub(g, gather(g, place, tokens.wanted), g.integers(1)),
  };
  const count = expandTo(g, dimOf(g, going.positions, 1), concat(g, [batch, g.integers([1])], 0), [B, 1]);
  return { tokens: going, kept: cast(g, count, 'int32'), score };
}

/** 1 for the rows that are asked for and those right before them, [R]. */
function upToWanted(g: GraphBuilder, { rows, wanted }: PromptTokens, recent: number): Value {
  const count = rows.shape[0]!;
  const back = g.integers([...Array(recent).keys()]);
  const stay = reshape(g, max(g, sub(g, unsqueeze(g, wanted, [1]), back), g.integers(0)), [
    `${wanted.shape[0]}·${recent}`,
  ]);
  const none = expandTo(g, g.constant(0), dimOf(g, rows, 0), [count]);
  const ones = expandTo(g, g.constant(1), shapeOf(g, stay), stay.shape);
  return scatterElements(g, none, stay, ones, 0);
}

/** The predictor over all tokens, [B, S]. */
function scored(g: GraphBuilder, { tokens, batch, block }: PromptSeam, probe: PromptProbe): Value {
  const width = fixed(tokens.rows.shape[1], 'the width of a token');
  const hidden = probe.bias.length;
  const name = `prompt_stage_${block}`;
  if (probe.matrix.length !== 2 * width * hidden || probe.output.length !== hidden) {
    const found = `${probe.matrix.length} and ${probe.output.length} numbers`;
    throw invalid(`${name}: the probe has ${found}, expected ${2 * width * hidden} and ${hidden}`);
  }
  const shape = tokens.positions.shape;
  const bySequence = (x: Value, last: number) =>
    reshapeTo(g, x, concat(g, [batch, g.integers([-1, last])], 0), [...shape, last]);
  const z = bySequence(normalised(g, tokens.rows, width), width);
  const length = dimOf(g, tokens.positions, 1);
  const soFar = cast(g, add(g, range(g, squeeze(g, length, [0]), shape[1]!), g.integers(1)), 'float32');
  const mean = div(g, cumSum(g, z, 1), unsqueeze(g, soFar, [1]));
  const features = normalised(g, concat(g, [z, mean], 2), 2 * width);
  const matrix = g.initializer(`${name}_matrix`, floatTensor(g.float, [2 * width, hidden], probe.matrix));
  const inner = biasGelu(g, matMul(g, features, matrix), g.constant([...probe.bias], [hidden]));
  const predicted = matMul(g, inner, g.constant([...probe.output], [hidden, 1]));
  const bounded = clip(g, add(g, predicted, probe.outputBias), -predictionBound, predictionBound);
  return squeeze(g, bounded, [2]);
}

/** Layer normalisation without an affine part. */
function normalised(g: GraphBuilder, x: Value, width: number): Value {
  const ones = g.constant(Array<number>(width).fill(1), [width]);
  const zeros = g.constant(Array<number>(width).fill(0), [width]);
  return layerNormalization(g, x, ones, zeros, probeEpsilon).y;
}
