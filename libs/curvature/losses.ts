import { klCurvatureVector, outputSketch, pullbackHessianVector } from '../autodiff/hvp.js';
import { internal } from '../errors/error.js';
import type { GraphBuilder } from '../onnx/builder.js';
import type { Value } from '../onnx/ir.js';
import { cast, equal, greaterOrEqual, mul, softmax, sub, unsqueeze } from '../onnx/ops/index.js';
import { fixed } from '../onnx/shapes.js';

/** What a loss is measured against: KL(unpruned ‖ pruned), or the cross-entropy of the true label (for text, of the next token). */
export const LOSSES = ['kl', 'cross-entropy'] as const;
export type Loss = (typeof LOSSES)[number];

/** The end of a network. */
export interface Answer {
  /** [..., classes]: a row for each distribution that the network answers with. */
  readonly logits: Value;
  /** For a loss that has them, the true class of each row, int64 [...]; −1 where there is none, and the row has no part in the loss. */
  readonly targets: Value | undefined;
}

/** The derivatives of a loss by some values, as parts of a graph. The loss of a sample is the sum over its rows; samples do not interact. */
export interface LossDerivatives {
  readonly needsLabels: boolean;
  /** ∂L/∂wrt; undefined where it is zero by itself. */
  gradient(g: GraphBuilder, answer: Answer, wrt: readonly Value[]): readonly Value[] | undefined;
  /** H v, by direction and value. `directions[k][i]` belongs to `wrt[i]`; undefined is zero. */
  products(
    g: GraphBuilder,
    answer: Answer,
    wrt: readonly Value[],
    directions: readonly (readonly (Value | undefined)[])[],
  ): readonly (readonly Value[])[];
  /**
   * Jᵀ R r for directions r [..., classes], where J R Rᵀ Jᵀ is the whole of H: by direction and value. Only for a loss whose Hessian
   * is of that form.
   */
  readonly sketch:
    | ((
        g: GraphBuilder,
        answer: Answer,
        wrt: readonly Value[],
        directions: readonly Value[],
      ) => readonly (readonly Value[])[])
    | undefined;
}

/**
 * ∂L/∂z of L = −Σ log softmax(z)[target] in closed form: p − y. Its own derivative along ż is F ż = p ∘ ż − p (pᵀ ż), so that no
 * derivative of a logarithm is built, and nothing larger than the logits.
 */
function crossEntropySlope(g: GraphBuilder, { logits, targets }: Answer): Value {
  if (!targets) throw internal('cross-entropy has labels');
  const classes = fixed(logits.shape.at(-1), 'the number of classes');
  const every = g.integers(Array.from({ length: classes }, (_, c) => c));
  const label = unsqueeze(g, targets, [-1]);
  const y = cast(g, equal(g, label, every), g.float);
  const labelled = cast(g, greaterOrEqual(g, label, g.integers(0)), g.float);
  return mul(g, sub(g, softmax(g, logits), y), labelled);
}

function crossEntropy(
  g: GraphBuilder,
  answer: Answer,
  wrt: readonly Value[],
  directions: readonly (readonly (Value | undefined)[])[],
) {
  return pullbackHessianVector(g, [answer.logits], [crossEntropySlope(g, answer)], wrt, directions);
}

export const losses: Readonly<Record<Loss, LossDerivatives>> = {
  // At gates of 1: ∂KL = 0, and ∂²KL = JᵀFJ with F = diag(p) − ppᵀ = RRᵀ.
  kl: {
    needsLabels: false,
    gradient: () => undefined,
    products: (g, { logits }, wrt, directions) => klCurvatureVector(g, logits, wrt, directions),
    sketch: (g, { logits }, wrt, directions) => outputSketch(g, logits, wrt, directions),
  },
  // ∂²L = JᵀFJ + Σ_k (p_k − y_k) ∂²z_k: the second term has no square root, so there is no sketch.
  'cross-entropy': {
    needsLabels: true,
    gradient: (g, answer, wrt) => crossEntropy(g, answer, wrt, []).gradients,
    products: (g, answer, wrt, directions) => crossEntropy(g, answer, wrt, directions).products,
    sketch: undefined,
  },
};
