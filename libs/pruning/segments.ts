import { internal } from '../errors/error.js';
import { countFlops } from '../onnx/flops.js';
import type { Graph } from '../onnx/ir.js';

/** FLOPs of a stretch between merging stages: constant + linear · t + quadratic · t² at t tokens. */
export interface Segment {
  readonly constant: number;
  readonly linear: number;
  readonly quadratic: number;
}

/**
 * What one sample costs, by segments. Everything in a transformer is a polynomial of second degree in the tokens of its
 * segment (attention is quadratic, the rest linear), so three counts of the graph's FLOPs fix each. What does not depend on any
 * stage is the constant of the first segment, at whose tokens nothing varies.
 *
 * @param blocks where the merging stages sit; that of block b leaves the symbols `rows_b` and `longest_b`
 */
export function segmentsOf(graph: Graph, blocks: readonly number[], tokens: number): Segment[] {
  const at = (counts: readonly number[]) => countFlops(graph, symbolsOf(graph, blocks, counts)).total;
  const all = blocks.map(() => tokens);
  const middle = Math.ceil(tokens / 2);
  const full = at(all);
  const segments = all.map((_, stage): Segment => {
    const value = (t: number) => at(all.map((n, other) => (other === stage ? t : n)));
    // Newton's divided differences over t = 1, middle, tokens.
    const [first, second] = [value(1), value(middle)];
    const slope = (second - first) / (middle - 1);
    const quadratic = ((full - second) / (tokens - middle) - slope) / (tokens - 1);
    return { constant: 0, linear: slope - quadratic * (1 + middle), quadratic };
  });
  const rest = segments.reduce((sum, { linear, quadratic }) => sum - linear * tokens - quadratic * tokens ** 2, full);
  return [{ constant: rest, linear: 0, quadratic: 0 }, ...segments];
}

/** FLOPs of one sample whose stages left these many tokens. */
export function flopsAt(segments: readonly Segment[], kept: readonly number[]): number {
  return segments.reduce((sum, { constant, linear, quadratic }, segment) => {
    const t = segment === 0 ? 0 : (kept[segment - 1] ?? internalCount(segment));
    return sum + constant + linear * t + quadratic * t * t;
  }, 0);
}

function internalCount(segment: number): never {
  throw internal(`no token count for segment ${segment}`);
}

/**
 * The run-time value of every symbol of the graph for one sample. A symbol is 'B', `rows_b` or `longest_b` of a stage's block b, a
 * number, 'half', or a product of such with '·'.
 */
function symbolsOf(graph: Graph, blocks: readonly number[], counts: readonly number[]): Record<string, number> {
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
