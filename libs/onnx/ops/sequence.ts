import type { GraphBuilder } from '../builder.js';
import type { Value } from '../ir.js';

/**
 * A sequence of one tensor. No container of the runtime's JavaScript binding holds one, which is what it is for: see
 * {@link writtenInPlace}.
 */
export function sequenceOf(g: GraphBuilder, x: Value): Value {
  const output = { type: x.type, shape: x.shape, sequence: true } as const;
  return g.emitOne({ op: 'SequenceConstruct', inputs: [x], output });
}

/** The output by which a graph says that all its others may be written in place. */
export const IN_PLACE = 'in_place';

/**
 * The mark of a graph whose outputs are all written into tensors that the caller hands in; it has to be the first of the graph's
 * outputs. The runtime's binding copies every output that was fetched once more, those written in place too: a cache of keys and
 * values would be copied whole for each token. It does so in the order of the outputs, after the run, and stops at the first that
 * it has no container for: this one. libs/runtime asks for it and knows what that end means.
 * @param x a small tensor, which must not be a constant
 */
export function writtenInPlace(g: GraphBuilder, x: Value): Value {
  return g.named(IN_PLACE, sequenceOf(g, x));
}
