import { type GateKind, isPerSample, unitsOf } from '../models/gates.js';
import type { EstimatorKind } from './estimators.js';
import type { Loss } from './losses.js';
import { outputsOf, type Network } from './network.js';

/** Up to how many directions `exact` is the default, and what is taken beyond that. */
interface Choice {
  readonly exactUpTo: number;
  readonly otherwise: EstimatorKind;
  readonly probes: number;
}

/*
 * By measured error per second. `node scripts/bench.mjs estimators --model DIR --data DATA` on a ViT of 10 classes, 6 blocks of 4 heads,
 * 65 tokens and 512 neurons on CIFAR-10, 4 samples, 2 shared cores; milliseconds a sample to an error of 10 % of the exact curvature
 * (docs/estimators.md has the whole table):
 *
 *                        exact   gate-signs   output-sketch
 *   KL  heads               89          857             207
 *   KL  tokens              44        4,760           1,140
 *   KL  masks               53       22,800           1,200
 *   KL  neurons             94       28,600             500
 *   CE  heads              333        2,890
 *   CE  tokens           5,640        2,830
 *   CE  masks            7,910       38,000
 *
 * Under KL some 200 random pullbacks are as good as no error at all, so exact wins while the classes are fewer than that, and gate signs
 * never do. Under cross-entropy exact takes a product a gate. Gates whose sizes are uneven (masks: the class token's is far above all
 * others) disturb each other under random signs, and even a few hundred products are then the quicker way.
 */
/** Of gates that all windows of text share. */
const sharedProbes = 4;
const byLogits: Choice = { exactUpTo: 100, otherwise: 'output-sketch', probes: 32 };
const choices: Readonly<Record<Loss, Readonly<Record<GateKind, Choice>>>> = {
  kl: { heads: byLogits, tokens: byLogits, masks: byLogits, neurons: byLogits },
  'cross-entropy': {
    heads: { exactUpTo: 192, otherwise: 'gate-signs', probes: 32 },
    tokens: { exactUpTo: 128, otherwise: 'gate-signs', probes: 64 },
    masks: { exactUpTo: 512, otherwise: 'gate-signs', probes: 64 },
    neurons: { exactUpTo: 64, otherwise: 'gate-signs', probes: 64 },
  },
};

/** The estimator of a unit that nobody chose one for, and its number of random directions. */
export function defaultEstimator(
  kind: GateKind,
  loss: Loss,
  network: Pick<Network, 'blocks' | 'tokens' | 'logits'>,
): { readonly kind: EstimatorKind; readonly probes: number } {
  const choice = choices[loss][kind];
  const { exactUpTo, otherwise } = choice;
  // What all samples share is averaged over the rows of all of them: of text those are many, and more text says more than more probes.
  const probes =
    network.logits.length > 1 && !isPerSample(kind) ? Math.min(choice.probes, sharedProbes) : choice.probes;
  const gates = unitsOf(network, kind).reduce((a, b) => a + b, 0);
  const directions = loss === 'kl' ? outputsOf(network) : gates;
  return { kind: directions <= exactUpTo ? 'exact' : otherwise, probes };
}

/** Rows of tokens that make the runtime's matrix products run at full speed; more costs memory alone. */
const rowsAtOnce = 1024;

/** Samples of a run. */
export function defaultBatch({ tokens }: Pick<Network, 'tokens'>): number {
  return Math.max(1, Math.min(32, Math.round(rowsAtOnce / tokens)));
}

/** Beyond this many directions the forward part that they share is a small share of a run. */
const mostUnrolled = 8;
/** What the directions of a run may take, a byte a logit. */
const directionBytes = 256 * 2 ** 20;

/** Directions of a run. */
export function directionsAtOnce(network: Pick<Network, 'logits'>, batch: number): number {
  return Math.max(1, Math.min(mostUnrolled, Math.floor(directionBytes / (batch * outputsOf(network)))));
}
