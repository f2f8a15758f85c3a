import { type GateKind, unitsOf } from '../models/gates.js';
import { estimators, type EstimatorKind } from './estimators.js';
import type { Loss } from './losses.js';
import { outputsOf, type Network } from './network.js';

/** Up to how many directions `exact` is the default, and what is taken beyond that. */
interface Choice {
  readonly exactUpTo: number;
  readonly otherwise: EstimatorKind;
  readonly probes: number;
}

type Choices = Readonly<Record<Loss, Readonly<Record<GateKind, Choice>>>>;

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
const byLogits: Choice = { exactUpTo: 100, otherwise: 'output-sketch', probes: 32 };
const images: Choices = {
  kl: { heads: byLogits, tokens: byLogits, masks: byLogits, neurons: byLogits },
  'cross-entropy': {
    heads: { exactUpTo: 192, otherwise: 'gate-signs', probes: 32 },
    tokens: { exactUpTo: 128, otherwise: 'gate-signs', probes: 64 },
    masks: { exactUpTo: 512, otherwise: 'gate-signs', probes: 64 },
    neurons: { exactUpTo: 64, otherwise: 'gate-signs', probes: 64 },
  },
};

/*
 * The same of text, on the bundled model (6 blocks of 4 heads, windows of 64 tokens, 4 of them):
 *
 *                        exact   gate-signs   output-sketch
 *   KL  heads              527          124             895
 *   KL  tokens          28,000        9,340           6,990
 *   KL  masks           25,700       12,500           3,090
 *   CE  heads            1,020          551
 *   CE  tokens          14,900        4,950
 *   CE  masks           19,700       21,300
 *
 * Logits are so many that exact takes a product a gate. What all windows share is averaged over the windows, and more text says more than
 * more directions: a few of them each are enough.
 */
const few = { exactUpTo: 12, otherwise: 'gate-signs', probes: 4 } as const;
const text: Choices = {
  kl: { heads: few, tokens: byLogits, masks: byLogits, neurons: { ...byLogits, probes: 4 } },
  'cross-entropy': { ...images['cross-entropy'], heads: few, neurons: few },
};

/** The estimator of a unit that nobody chose one for, and its number of random directions. */
export function defaultEstimator(
  kind: GateKind,
  loss: Loss,
  network: Pick<Network, 'blocks' | 'tokens' | 'logits'>,
): { readonly kind: EstimatorKind; readonly probes: number } {
  const { exactUpTo, otherwise, probes } = (network.logits.length > 1 ? text : images)[loss][kind];
  const gates = unitsOf(network, kind).reduce((a, b) => a + b, 0);
  const { count } = estimators.exact.probing({ loss, gates, logits: outputsOf(network), probes });
  return { kind: count <= exactUpTo ? 'exact' : otherwise, probes };
}

/** Rows of tokens that make the runtime's matrix products run at full speed; more costs memory alone. */
const rowsAtOnce = 1024;

/** What the values of a run may take that live until its end. */
const runBytes = 2 * 2 ** 30;

/**
 * Samples of a run: as many as make the products fast, unless their values take too much memory. Of a block some 12 vectors of the residual
 * stream's width a token are kept for the pullback, three of the neurons', and the attention before and after its softmax; of the logits
 * there are some eight (measured on pythia-410m's shape, windows of 512: 2.7 GB foretold, 2.7 GB found).
 */
export function defaultBatch({
  tokens,
  hidden,
  blocks,
  logits = [0],
}: Pick<Network, 'tokens' | 'hidden' | 'blocks'> & Partial<Pick<Network, 'logits'>>): number {
  const ofBlocks = blocks.reduce(
    (sum, { heads, neurons }) => sum + tokens * (12 * hidden + 3 * neurons) + 2 * heads * tokens ** 2,
    0,
  );
  const bytes = 4 * (ofBlocks + 8 * outputsOf({ logits }));
  return Math.max(1, Math.min(32, Math.round(rowsAtOnce / tokens), Math.floor(runBytes / bytes)));
}

/** Beyond this many directions the forward part that they share is a small share of a run. */
const mostUnrolled = 8;
/** What the directions of a run may take, a byte a logit. */
const directionBytes = 256 * 2 ** 20;

/** Directions of a run. */
export function directionsAtOnce(network: Pick<Network, 'logits'>, batch: number): number {
  return Math.max(1, Math.min(mostUnrolled, Math.floor(directionBytes / (batch * outputsOf(network)))));
}
