import { randomFor, type RandomGenerator } from '../../../data/random.js';
import type { Probe, StageParameters, StageScore } from '../parameters.js';
import { referenceStage, type Layout, type Sample } from './reference.js';

/** Random samples, probes and parameters of every policy. */

export function normal(random: RandomGenerator): number {
  const uniform = () => ((random.next() >>> 0) + 0.5) / 2 ** 32;
  return Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
}

/** Tokens with a shift of their own, so that means do not vanish; masses are 1 unless `packed`. */
export function randomSample(
  random: RandomGenerator,
  tokens: number,
  width: number,
  special: number,
  packed: boolean,
): Sample {
  const matrix = (shift: number) =>
    Array.from({ length: tokens }, () => Array.from({ length: width }, () => Math.fround(normal(random) + shift)));
  const mass = Array.from({ length: tokens }, (_, i) => (packed && i >= special ? 1 + ((random.next() >>> 0) % 4) : 1));
  return { x: matrix(0.5), mass, queries: matrix(0), keys: matrix(0.2) };
}

const array = (random: RandomGenerator, length: number, scale: number) =>
  Float32Array.from({ length }, () => scale * normal(random));

export function randomProbe(random: RandomGenerator, width: number, hidden: number): Probe {
  const scale = 1 / Math.sqrt(width);
  return {
    token: array(random, width * hidden, scale),
    classToken: array(random, width * hidden, scale),
    meanToken: array(random, width * hidden, scale),
    bias: array(random, hidden, 0.3),
    output: array(random, hidden, 1),
    outputBias: -3,
  };
}

export const policies = ['curvature', 'tome', 'attention', 'heart', 'taylor', 'magnitude', 'random'] as const;

/** A policy's parameters as the planner would make them, by default with its own selection. */
export function randomParameters(
  policy: (typeof policies)[number],
  width: number,
  options: Partial<Pick<StageParameters, 'selection' | 'matchings' | 'rule'>> = {},
  seed = 5,
): StageParameters {
  const random = randomFor(seed, width);
  const scores: Record<(typeof policies)[number], () => StageScore> = {
    curvature: () => ({
      policy: 'curvature',
      metric: array(random, width * 5, 1 / Math.sqrt(width)),
      probe: randomProbe(random, width, 7),
      massExponent: 1,
      influenceExponent: 0.5,
      imageExponent: -0.25,
    }),
    tome: () => ({ policy: 'tome' }),
    attention: () => ({ policy: 'attention' }),
    heart: () => ({ policy: 'heart', probe: randomProbe(random, width, 7) }),
    taylor: () => ({ policy: 'taylor', probe: randomProbe(random, width, 7) }),
    magnitude: () => ({ policy: 'magnitude' }),
    random: () => ({ policy: 'random', seed: 3 }),
  };
  const pairs = policy === 'curvature' || policy === 'tome';
  return {
    block: 2,
    rule: pairs ? 'merge' : policy === 'attention' ? 'fuse' : 'drop',
    selection: policy === 'curvature' ? 'value' : 'rank',
    matchings: pairs ? 2 : 1,
    score: scores[policy](),
    ...options,
  };
}

/** Thresholds that take a fraction of each matching's candidates, in the middle between two of them: no rounding tips the scale. */
export function thresholdsAt(sample: Sample, parameters: StageParameters, layout: Layout, fraction: number): number[] {
  const thresholds: number[] = [];
  for (let matching = 0; matching < parameters.matchings; matching++) {
    const { candidates } = referenceStage(sample, parameters, [...thresholds, -Infinity], layout);
    const costs = candidates[matching]!.filter((c) => c < Infinity).sort((a, b) => a - b);
    const k = Math.round(fraction * costs.length);
    const [below, above] = [costs[k - 1] ?? -Infinity, costs[k] ?? Infinity];
    thresholds.push(Math.fround(k === 0 ? -Infinity : k === costs.length ? Infinity : (below + above) / 2));
  }
  return thresholds;
}
