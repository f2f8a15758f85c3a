import { gradient, hessianVector, klCurvatureVector, outputSketch } from '../autodiff/hvp.js';
import { internal } from '../errors/error.js';
import type { GraphBuilder } from '../onnx/builder.js';
import type { Value } from '../onnx/ir.js';
import { logSoftmax, mul, neg, reduceSum } from '../onnx/ops/index.js';

/** What a loss is measured against: KL(unpruned ‖ pruned), or the cross-entropy of the true label. */
export const LOSSES = ['kl', 'cross-entropy'] as const;
export type Loss = (typeof LOSSES)[number];

/** The end of a network: logits [B, classes] and, for a loss that has them, the labels as one-hot rows [B, classes]. */
export interface Answer {
  readonly logits: Value;
  readonly targets: Value | undefined;
}

/** The derivatives of a loss by some values, as parts of a graph. Sums over samples are of independent terms. */
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
   * Jᵀ R r for directions r [B, classes], where J R Rᵀ Jᵀ is the whole of H: by direction and value. Only for a loss whose Hessian
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

/** L = −Σ y log softmax(z), per sample [B, 1]. */
function crossEntropy(g: GraphBuilder, { logits, targets }: Answer): Value {
  if (!targets) throw internal('cross-entropy has labels');
  return neg(g, reduceSum(g, mul(g, targets, logSoftmax(g, logits)), [-1]));
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
    gradient: (g, answer, wrt) => gradient(g, crossEntropy(g, answer), wrt),
    products: (g, answer, wrt, directions) => hessianVector(g, crossEntropy(g, answer), wrt, directions).products,
    sketch: undefined,
  },
};
