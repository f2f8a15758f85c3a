import { readTokens, type TextDataset } from '../data/text/dataset.js';
import { buildCausalLm, causalSpecOf } from '../models/causal-lm.js';
import type { Checkpoint } from '../models/checkpoint.js';
import { filledUp, readAhead } from './batches.js';
import { targetsInput, type BatchOptions, type Network } from './network.js';

/**
 * A language model over windows of text: token ids go in, a row of logits a position comes out. Of the cross-entropy the label of a
 * position is the token after it; the last one has none. Float32 weights. Throws INVALID_ARGUMENT where windows exceed the context.
 */
export function textNetwork(checkpoint: Checkpoint, dataset: TextDataset): Network {
  const spec = causalSpecOf(checkpoint);
  const { positions } = dataset;
  return {
    checkpoint,
    blocks: spec.blocks,
    hidden: spec.hidden,
    tokens: positions,
    logits: [positions, spec.vocabulary],
    build(options) {
      const { g, gates, logits } = buildCausalLm(checkpoint, { ...options, lowering: 'canonical', positions });
      return { g, gates, logits };
    },
    batches: (indices, options) => textBatches(dataset, indices, options),
  };
}

/** Windows [batch, positions] as `input_ids`, the tokens after each as `targets` [batch, positions]. See `Network.batches`. */
function textBatches(dataset: TextDataset, all: readonly number[], { batch, labels, signal }: BatchOptions) {
  const { positions } = dataset;
  const dims = [batch, positions];
  const read = async (indices: readonly number[]) => {
    const { ids } = await readTokens(dataset, indices);
    const data = filledUp(ids, indices.length, batch);
    return {
      feeds: {
        input_ids: { type: 'int64', dims, data } as const,
        ...(labels ? { [targetsInput]: { type: 'int64', dims, data: following(data, positions) } as const } : {}),
      },
      rows: indices.length * (labels ? positions - 1 : positions),
    };
  };
  return readAhead(all, batch, read, signal);
}

/** The token after each position, −1 after the last of a window. */
function following(ids: BigInt64Array, positions: number): BigInt64Array {
  return ids.map((_, at) => ((at + 1) % positions === 0 ? -1n : ids[at + 1]!));
}
