import type { GraphBuilder } from '../../../onnx/builder.js';
import type { Entering } from '../entering.js';
import type { StageScore } from '../parameters.js';
import { attention } from './attention.js';
import { curvature } from './curvature.js';
import { magnitude } from './magnitude.js';
import { predicted } from './predicted.js';
import { random } from './random.js';
import type { PairScore, ScoreRule, TokenScore } from './score.js';
import { tome } from './tome.js';

export type { Influence, PairScore, TokenScore } from './score.js';

/** Every policy's score; a policy without one does not compile. */
const rules: { readonly [P in StageScore['policy']]: ScoreRule<Extract<StageScore, { policy: P }>> } = {
  curvature,
  tome,
  attention,
  heart: predicted,
  taylor: predicted,
  magnitude,
  random,
};

/** Writes the score of a stage into the graph. */
export function scoreOf(g: GraphBuilder, entering: Entering, score: StageScore, name: string): PairScore | TokenScore {
  return (rules[score.policy] as ScoreRule)(g, entering, score, name);
}
