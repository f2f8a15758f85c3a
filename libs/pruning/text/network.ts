import { buildCausalLm, type CausalLm, type CausalLmOptions } from '../../models/causal-lm.js';
import type { Checkpoint } from '../../models/checkpoint.js';
import type { Weights } from '../../models/weights.js';
import type { Graph } from '../../onnx/ir.js';
import { FIXED_KINDS } from '../tasks/task.js';

/** A network over whole windows that ends before its logits: `input_ids` [B, positions] (and gates) → `final` [B · positions, D]. */
function endingBeforeLogits({ g, final }: CausalLm): Graph {
  return g.build([g.named('final', final)]);
}

/** As it is served: with the runtime's own kernels, and the weights that a plan leaves. */
export function plainNetwork(checkpoint: Checkpoint, positions: number, weights: () => Weights): Graph {
  return endingBeforeLogits(buildCausalLm(checkpoint, { lowering: 'fused', positions, weights, name: 'measured' }));
}

/** With gates on heads and neurons, by which any choice of them can be measured. */
export function gatedNetwork(checkpoint: Checkpoint, positions: number, weights?: () => Weights): Graph {
  const options: CausalLmOptions = {
    lowering: 'fused',
    positions,
    gates: FIXED_KINDS,
    name: 'gated',
    ...(weights ? { weights } : {}),
  };
  return endingBeforeLogits(buildCausalLm(checkpoint, options));
}
