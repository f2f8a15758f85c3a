import type { CausalSpec } from '../../models/architectures/gpt-neox.js';
import { causalBinder } from '../../models/causal-transformer.js';
import { fused } from '../../models/layers/fused.js';
import type { Weights } from '../../models/weights.js';
import { GraphBuilder } from '../../onnx/builder.js';
import type { Graph, Value } from '../../onnx/ir.js';
import {
  argMax,
  cast,
  equal,
  exp,
  gatherElements,
  logSoftmax,
  mul,
  neg,
  reduceSum,
  sub,
  unsqueeze,
} from '../../onnx/ops/index.js';
import type { Session } from '../../runtime/runtime.js';

/** What the next-token distributions of two models say of a run of positions, by position. */
export interface PositionMeasures {
  /** KL(dense ‖ pruned), nats. */
  readonly kl: Float32Array;
  /** −log p of the token that followed, nats. */
  readonly denseLoss: Float32Array;
  readonly prunedLoss: Float32Array;
  /** Whether the likeliest token followed. */
  readonly denseRight: Uint8Array;
  readonly prunedRight: Uint8Array;
}

/** Bytes that one run's logits of one model may take: a vocabulary of 50,000 is 200 kB a position. */
const logitBytes = 32 * 2 ** 20;

/** Positions of one run. */
export function positionsAtOnce(vocabulary: number): number {
  return Math.max(16, Math.min(4096, Math.floor(logitBytes / (4 * vocabulary))));
}

/**
 * Two models compared from their last hidden rows, `dense` and `pruned` [N, D], and the tokens that followed, `targets` int64 [N, 1]: outputs
 * of [N] as `PositionMeasures`. Logits are made here, of a few positions at a time, and leave the runtime never.
 *
 * KL = Σ p (log p − log q), p of the dense model.
 *
 * @param pruned where the pruned model has another matrix before its logits
 */
export function comparisonGraph(spec: CausalSpec, dense: Weights, pruned?: Weights): Graph {
  const g = new GraphBuilder('comparison');
  const given = (name: string) => g.input(name, g.float, ['N', spec.hidden]);
  const targets = g.input('targets', 'int64', ['N', 1]);
  const head = causalBinder(g, { spec, weights: dense }).head();
  const other = pruned === undefined ? head : causalBinder(g, { spec, weights: pruned }).head();
  const logP = logSoftmax(g, fused.linear(g, given('dense'), head));
  const logQ = logSoftmax(g, fused.linear(g, given('pruned'), other));
  const kl = reduceSum(g, mul(g, exp(g, logP), sub(g, logP, logQ)), [1], false);
  const loss = (log: Value) => reduceSum(g, neg(g, gatherElements(g, log, targets, 1)), [1], false);
  const right = (log: Value) => cast(g, equal(g, unsqueeze(g, argMax(g, log, 1, false), [1]), targets), 'uint8');
  return g.build([
    g.named('kl', kl),
    g.named('dense_loss', loss(logP)),
    g.named('pruned_loss', loss(logQ)),
    g.named('dense_right', right(logP)),
    g.named('pruned_right', right(logQ)),
  ]);
}

/** Compares hidden rows [N, D] of two models, a few positions at a time. @param targets [N], the tokens that followed */
export async function comparePositions(
  session: Session,
  { hidden, vocabulary }: CausalSpec,
  dense: Float32Array,
  pruned: Float32Array,
  targets: BigInt64Array,
): Promise<PositionMeasures> {
  const count = targets.length;
  const found = {
    kl: new Float32Array(count),
    denseLoss: new Float32Array(count),
    prunedLoss: new Float32Array(count),
    denseRight: new Uint8Array(count),
    prunedRight: new Uint8Array(count),
  };
  const names = {
    kl: 'kl',
    denseLoss: 'dense_loss',
    prunedLoss: 'pruned_loss',
    denseRight: 'dense_right',
    prunedRight: 'pruned_right',
  } as const;
  const step = positionsAtOnce(vocabulary);
  for (let from = 0; from < count; from += step) {
    const to = Math.min(count, from + step);
    const rows = (data: Float32Array) =>
      ({ type: 'float32', dims: [to - from, hidden], data: data.slice(from * hidden, to * hidden) }) as const;
    const outputs = await session.run({
      dense: rows(dense),
      pruned: rows(pruned),
      targets: { type: 'int64', dims: [to - from, 1], data: targets.slice(from, to) },
    });
    for (const key of Object.keys(names) as (keyof typeof names)[]) {
      found[key].set(outputs[names[key]]!.data as Float32Array & Uint8Array, from);
    }
  }
  return found;
}
