import { invalid } from '../errors/error.js';
import { losses, type Loss } from './losses.js';

export const ESTIMATORS = ['exact', 'gate-signs', 'output-sketch'] as const;
export type EstimatorKind = (typeof ESTIMATORS)[number];

/**
 * What an estimator makes of its runs. Every direction d gives a pair of vectors over the gates of one sample, (d, H d) for a
 * direction over gates and (u, u) with u = Jᵀ R d for one over its logits, and H is the sum (or the expectation) of left · rightᵀ over
 * directions; the curvature of a gate is the diagonal of that.
 */
export interface Probing {
  readonly space: 'gates' | 'logits';
  /** Unit vectors, one after another, or random signs drawn anew for every sample and probe. */
  readonly directions: 'units' | 'signs';
  readonly count: number;
}

/** What is known of the problem when an estimator is asked. */
export interface Problem {
  readonly loss: Loss;
  /** Of one kind, in all blocks. */
  readonly gates: number;
  /** Logits of a sample: the classes, of as many rows as it has. */
  readonly logits: number;
  readonly probes: number;
}

/** One way to H: its cost is in runs over the network, its error in `standardError`. */
export interface Estimator {
  readonly kind: EstimatorKind;
  /** Whether there is an error of sampling. */
  readonly random: boolean;
  /** Throws INVALID_ARGUMENT where the estimator does not know the loss. */
  probing(problem: Problem): Probing;
}

/** A product over gates (a pushforward and a pullback) takes about this many pullbacks of a direction over logits. */
const pullbacksPerProduct = 2;

export const estimators: Readonly<Record<EstimatorKind, Estimator>> = {
  /**
   * No error of sampling. KL: H = Σ_c u_c u_cᵀ with u_c = Jᵀ R e_c, so as many pullbacks as logits (or, where that is less, one
   * product H e_i a gate). Cross-entropy: the curvature of the logits themselves has no such root, so one product a gate: H e_i, which
   * for all samples of a batch is one run, since samples do not interact.
   */
  exact: {
    kind: 'exact',
    random: false,
    probing({ loss, gates, logits }) {
      const byLogits = losses[loss].sketch !== undefined && logits <= gates * pullbacksPerProduct;
      return byLogits
        ? { space: 'logits', directions: 'units', count: logits }
        : { space: 'gates', directions: 'units', count: gates };
    },
  },
  /** diag H = E[v ∘ H v] for random signs v over the gates (Hutchinson 1990; Bekas, Kokiopoulou & Saad 2007). Any loss. */
  'gate-signs': {
    kind: 'gate-signs',
    random: true,
    probing: ({ probes }) => ({ space: 'gates', directions: 'signs', count: checked(probes) }),
  },
  /** diag JᵀFJ = E[(Jᵀ R r)²] for random signs r over the logits: one pullback a probe, for all gates at once. KL. */
  'output-sketch': {
    kind: 'output-sketch',
    random: true,
    probing({ loss, probes }) {
      if (!losses[loss].sketch) throw invalid(`estimator output-sketch knows the loss kl alone, not ${loss}`);
      return { space: 'logits', directions: 'signs', count: checked(probes) };
    },
  },
};

/** One probe says nothing of its own error. */
function checked(probes: number): number {
  if (Number.isInteger(probes) && probes >= 2) return probes;
  throw invalid(`probes is ${probes}, expected an integer of at least 2 (the error is told from their spread)`);
}
