import { internal } from '../errors/error.js';
import { countFlops } from '../onnx/flops.js';
import type { Graph } from '../onnx/ir.js';
import { flopsAt, type Segment } from '../store/segments.js';

/**
 * What one sample costs, by segments. Everything in a transformer is a polynomial of second degree in the tokens of its
 * segment (attention is quadratic, the rest linear), and what merges t' tokens into t has a term t' · t; so a few counts of the graph's
 * FLOPs fix all coefficients. What does not depend on any stage is the constant of the first segment.
 *
 * @param blocks where the merging stages sit; that of block b leaves the symbols `rows_b` and `longest_b`
 */
export function segmentsOf(graph: Graph, blocks: readonly number[], tokens: number): Segment[] {
  const at = (counts: readonly number[]) => countFlops(graph, symbolsOf(graph, blocks, counts)).total;
  const all = blocks.map(() => tokens);
  const full = at(all);
  const half = Math.ceil(tokens / 2);
  const changed = (changes: Readonly<Record<number, number>>) => at(all.map((n, stage) => changes[stage] ?? n));
  // Mixed differences: [f(h, h) − f(h, T) − f(T, h) + f(T, T)] / (h − T)².
  const crosses = blocks.map((_, stage) => {
    if (stage === 0) return 0;
    const both = changed({ [stage - 1]: half, [stage]: half });
    const each = changed({ [stage - 1]: half }) + changed({ [stage]: half });
    return (both - each + full) / (half - tokens) ** 2;
  });
  const segments = blocks.map((_, stage): Segment => {
    const cross = crosses[stage]!;
    // With the other stages at T, the products with the neighbours are linear here.
    const neighbours = (cross + (crosses[stage + 1] ?? 0)) * tokens;
    const value = (t: number) => changed({ [stage]: t }) - neighbours * t;
    // Newton's divided differences over t = 1, h, T.
    const [first, middle, last] = [value(1), value(half), value(tokens)];
    const slope = (middle - first) / (half - 1);
    const quadratic = ((last - middle) / (tokens - half) - slope) / (tokens - 1);
    return { constant: 0, linear: slope - quadratic * (1 + half), quadratic, cross };
  });
  const varying = flopsAt([{ constant: 0, linear: 0, quadratic: 0, cross: 0 }, ...segments], all, tokens);
  return [{ constant: full - varying, linear: 0, quadratic: 0, cross: 0 }, ...segments];
}

/**
 * The run-time value of every symbol of the graph for one sample. A symbol is 'B', `rows_b` or `longest_b` of a stage's block b, a
 * number, 'half', or a product of such with '·'.
 */
export function symbolsOf(graph: Graph, blocks: readonly number[], counts: readonly number[]): Record<string, number> {
  const found: Record<string, number> = {};
  const factor = (part: string): number => {
    if (part === 'B') return 1;
    if (part === 'half') return 0.5;
    if (/^\d+$/.test(part)) return Number(part);
    const block = /^(?:rows|longest)_(\d+)$/.exec(part)?.[1];
    const count = block === undefined ? undefined : counts[blocks.indexOf(Number(block))];
    if (count === undefined) throw internal(`symbol ${part} of ${graph.name} has no count of tokens`);
    return count;
  };
  const values = [...graph.inputs, ...graph.nodes.flatMap(({ outputs }) => outputs)];
  for (const { shape } of values) {
    for (const dim of shape) {
      if (typeof dim === 'string') found[dim] ??= dim.split('·').reduce((product, part) => product * factor(part), 1);
    }
  }
  return found;
}
