import type { Probe, StageParameters, StageScore } from '../parameters.js';
import { randomTables, randomTurns } from '../scores/random.js';

/** A stage over the arrays of one sample, step by step in float64: what the graph is held against. */

export type Matrix = readonly (readonly number[])[];

export interface Sample {
  readonly x: Matrix;
  readonly mass: readonly number[];
  readonly queries: Matrix;
  readonly keys: Matrix;
}

export interface ReferenceResult {
  readonly x: number[][];
  readonly mass: number[];
  readonly groups: number[];
  /** Of each matching, over the tokens that it found. */
  readonly candidates: number[][];
  readonly summedCost: number;
}

export interface Layout {
  readonly special: number;
  readonly heads: number;
}

export function referenceStage(
  sample: Sample,
  parameters: StageParameters,
  thresholds: readonly number[],
  layout: Layout,
): ReferenceResult {
  return parameters.rule === 'merge'
    ? merge(sample, parameters, thresholds, layout)
    : remove(sample, parameters, thresholds[0]!, layout);
}

/** A token under way: the entering tokens that it holds, and what costs are made of. */
interface Token {
  x: number[];
  mass: number;
  feature: number[];
  influence: number;
  members: number[];
}

function merge(
  sample: Sample,
  { rule, selection, score }: StageParameters,
  thresholds: readonly number[],
  layout: Layout,
): ReferenceResult {
  if (score.policy !== 'curvature' && score.policy !== 'tome') throw new Error(`${rule} by ${score.policy}`);
  const predictions = score.policy === 'curvature' ? predictAll(sample, score.probe, layout.special) : undefined;
  const patches = predictions?.slice(layout.special) ?? [];
  const image = score.policy === 'curvature' ? score.imageExponent * mean(patches) : 0;
  let tokens = sample.x.map((x, i): Token => ({
    x: [...x],
    mass: sample.mass[i]!,
    feature:
      score.policy === 'curvature'
        ? times(x, score.metric, score.metric.length / x.length)
        : headMean(sample.keys[i]!, layout),
    influence: Math.exp(predictions?.[i] ?? 0),
    members: [i],
  }));
  const logCost = (a: Token, b: Token): number => {
    if (score.policy === 'tome') return Math.log(Math.max(1 - cosine(a.feature, b.feature), 0.5e-12));
    const d = a.feature.reduce((sum, v, k) => sum + (v - b.feature[k]!) ** 2, 0);
    return (
      Math.log(Math.max(d, 1e-12)) +
      score.massExponent * Math.log((a.mass * b.mass) / (a.mass + b.mass)) +
      (score.influenceExponent / 2) * Math.log(a.influence * b.influence) +
      image
    );
  };
  const candidates: number[][] = [];
  let summedCost = 0;
  for (const threshold of thresholds) {
    const count = tokens.length;
    const floor = Math.max(4, layout.special + 1);
    const isPatch = (i: number) => i >= layout.special;
    const givers = [...tokens.keys()].filter((i) => isPatch(i) && i % 2 === 0).slice(0, Math.max(0, count - floor));
    const takers = [...tokens.keys()].filter((i) => isPatch(i) && i % 2 === 1);
    const best = new Map(
      givers.map((i) => {
        const costs = takers.map((j) => logCost(tokens[i]!, tokens[j]!));
        const least = Math.min(...costs);
        return [i, { cost: least, partner: takers[costs.indexOf(least)]! }];
      }),
    );
    const order = [...best].sort(([, a], [, b]) => a.cost - b.cost).map(([i]) => i);
    const compared = tokens.map((_, i) => {
      const pair = best.get(i);
      if (!pair) return Infinity;
      return selection === 'rank' ? (order.indexOf(i) + 0.5) / count : pair.cost;
    });
    candidates.push(compared);
    const gone = new Set(givers.filter((i) => compared[i]! < threshold));
    const next = tokens.map((token) => ({ ...token }));
    for (const [j, taker] of tokens.entries()) {
      const group = [taker, ...[...gone].filter((i) => best.get(i)!.partner === j).map((i) => tokens[i]!)];
      const mass = group.reduce((sum, t) => sum + t.mass, 0);
      const average = (of: (t: Token) => number) => group.reduce((sum, t) => sum + t.mass * of(t), 0) / mass;
      next[j] = {
        x: taker.x.map((_, d) => average((t) => t.x[d]!)),
        mass,
        feature: taker.feature.map((_, d) => average((t) => t.feature[d]!)),
        influence: average((t) => t.influence),
        members: group.flatMap((t) => t.members),
      };
    }
    for (const i of gone) summedCost += Math.exp(best.get(i)!.cost);
    tokens = next.filter((_, i) => !gone.has(i));
  }
  const groups = sample.x.map((_, i) => tokens.findIndex((t) => t.members.includes(i)));
  return { x: tokens.map((t) => t.x), mass: tokens.map((t) => t.mass), groups, candidates, summedCost };
}

function remove(
  sample: Sample,
  { rule, selection, score, block }: StageParameters,
  threshold: number,
  layout: Layout,
): ReferenceResult {
  const count = sample.x.length;
  const scores = tokenScores(sample, score, block, layout);
  const patches = [...scores.keys()].filter((i) => i >= layout.special);
  const order = [...patches].sort((a, b) => scores[a]! - scores[b]! || a - b);
  const spare = Math.max(rule === 'fuse' ? 3 : 4, layout.special);
  const candidates = sample.x.map((_, i) => {
    const rank = order.indexOf(i);
    if (rank < 0 || rank >= count - spare) return Infinity;
    return selection === 'rank' ? (rank + 0.5) / count : scores[i]!;
  });
  const gone = [...candidates.keys()].filter((i) => candidates[i]! < threshold);
  const kept = [...candidates.keys()].filter((i) => !gone.includes(i));
  const total = gone.reduce((sum, i) => sum + scores[i]!, 0);
  const x = kept.map((i) => [...sample.x[i]!]);
  const mass = kept.map((i) => sample.mass[i]!);
  const groups = sample.x.map((_, i) => kept.indexOf(i));
  if (rule === 'fuse' && gone.length > 0) {
    x.push(sample.x[0]!.map((_, d) => gone.reduce((sum, i) => sum + scores[i]! * sample.x[i]![d]!, 0) / total));
    mass.push(1);
    for (const i of gone) groups[i] = kept.length;
  }
  return { x, mass, groups, candidates: [candidates], summedCost: total };
}

function tokenScores(sample: Sample, score: StageScore, block: number, layout: Layout): number[] {
  switch (score.policy) {
    case 'heart':
    case 'taylor':
      return predictAll(sample, score.probe, layout.special);
    case 'magnitude':
      return sample.x.map((x) => Math.hypot(...x));
    case 'attention':
      return classAttention(sample, layout.heads);
    case 'random': {
      const { draws, multiples, direction } = randomTables(score.seed, block, sample.x[0]!.length);
      const phase = randomTurns * cosine(sample.x[0]!, direction);
      return sample.x.map((_, i) => {
        const turned = draws[i]! + multiples[i]! * phase;
        return turned - Math.floor(turned);
      });
    }
    default:
      throw new Error(`${score.policy} scores pairs`);
  }
}

function classAttention({ queries, keys, mass }: Sample, heads: number): number[] {
  const width = queries[0]!.length / heads;
  const total = keys.map(() => 0);
  for (let h = 0; h < heads; h++) {
    const part = (v: readonly number[]) => v.slice(h * width, (h + 1) * width);
    const weights = keys.map((k, i) => mass[i]! * Math.exp(dot(part(queries[0]!), part(k)) / Math.sqrt(width)));
    const sum = weights.reduce((a, b) => a + b, 0);
    for (const [i, w] of weights.entries()) total[i]! += w / sum / heads;
  }
  return total;
}

/** gelu(z·A + z_class·B + z_mean·C + b1)·w2 + b2 of each token. */
function predictAll({ x, mass }: Sample, probe: Probe, special: number): number[] {
  const z = x.map((v) => {
    const m = mean(v);
    const variance = mean(v.map((a) => (a - m) ** 2));
    return v.map((a) => (a - m) / Math.sqrt(variance + 1e-6));
  });
  const patches = [...z.keys()].slice(special);
  const total = patches.reduce((sum, i) => sum + mass[i]!, 0);
  const average = z[0]!.map((_, d) => patches.reduce((sum, i) => sum + mass[i]! * z[i]![d]!, 0) / total);
  const hidden = probe.bias.length;
  const image = times(z[0]!, probe.classToken, hidden).map(
    (v, h) => v + times(average, probe.meanToken, hidden)[h]! + probe.bias[h]!,
  );
  return z.map((token) => {
    const u = times(token, probe.token, hidden).map((v, h) => gelu(v + image[h]!));
    return Math.max(-60, Math.min(60, dot(u, [...probe.output]) + probe.outputBias));
  });
}

/** The mean over the heads. */
function headMean(row: readonly number[], { heads }: Layout): number[] {
  const width = row.length / heads;
  return Array.from({ length: width }, (_, d) => mean(Array.from({ length: heads }, (_, h) => row[h * width + d]!)));
}

/** v·M, M row-major with so many columns. */
function times(v: readonly number[], matrix: Float32Array, columns: number): number[] {
  return Array.from({ length: columns }, (_, c) => v.reduce((sum, a, d) => sum + a * matrix[d * columns + c]!, 0));
}

const dot = (a: readonly number[], b: readonly number[]): number => a.reduce((sum, v, i) => sum + v * b[i]!, 0);
const mean = (v: readonly number[]): number => v.reduce((a, b) => a + b, 0) / v.length;
const cosine = (a: readonly number[], b: readonly number[]): number => dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
const gelu = (x: number): number => (x / 2) * (1 + erf(x / Math.SQRT2));

/** Maclaurin's series of the error function; past 5 it is ±1 in float32. */
function erf(x: number): number {
  if (Math.abs(x) > 5) return Math.sign(x);
  let term = x;
  let sum = x;
  for (let n = 1; n < 120; n++) {
    term *= (-x * x) / n;
    sum += term / (2 * n + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * sum;
}
