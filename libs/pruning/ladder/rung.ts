import type { TensorValue } from '../../runtime/tensor.js';
import { rungFor } from './counts.js';
import { pieceNames } from './ladder-graph.js';

type Tensors = Readonly<Record<string, TensorValue>>;

/** What is made of a stage's decision on one sample. */
export interface Rung {
  /** Tokens that stay. */
  readonly count: number;
  /** For the merge graph: of every matching what it merges, and with whom. */
  readonly merges: Tensors;
}

/**
 * The lowest of `counts` that keeps what a stage decided to keep of `tokens`, and the merges that lead there: matching after matching, the cheapest first in
 * each, so that every one of them is among those that the stage would have made.
 */
export function chooseRung(counts: readonly number[], tokens: number, decided: Tensors): Rung {
  const matchings: { merged: Uint8Array; cost: Float32Array }[] = [];
  while (decided[pieceNames.merged(matchings.length)] !== undefined) {
    const at = matchings.length;
    matchings.push({
      merged: decided[pieceNames.merged(at)]!.data as Uint8Array,
      cost: decided[pieceNames.cost(at)]!.data as Float32Array,
    });
  }
  const wanted = matchings.map(({ merged }) => [...merged.keys()].filter((place) => merged[place] !== 0));
  const count = rungFor(counts, tokens - wanted.reduce((sum, { length }) => sum + length, 0));
  let left = tokens - count;
  const merges: Record<string, TensorValue> = {};
  for (const [at, places] of wanted.entries()) {
    const { cost } = matchings[at]!;
    const cheapest = places.sort((a, b) => cost[a]! - cost[b]!).slice(0, left);
    left -= cheapest.length;
    const data = new Uint8Array(tokens);
    for (const place of cheapest) data[place] = 1;
    merges[pieceNames.merged(at)] = { type: 'bool', dims: [1, 1, tokens], data };
    merges[pieceNames.partner(at)] = decided[pieceNames.partner(at)]!;
  }
  return { count, merges };
}
