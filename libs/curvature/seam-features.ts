import { xoroshiro128plus } from 'pure-rand/generator/xoroshiro128plus';
import { uniformInt } from 'pure-rand/distribution/uniformInt';
import type { GraphBuilder } from '../onnx/builder.js';
import type { Value } from '../onnx/ir.js';
import { layerNormalization, reduceMean, reshape, slice, squeeze } from '../onnx/ops/index.js';

/** What a predictor at one seam is fitted on: the residual stream after that block's attention, in the unpruned model. */
export interface SeamFeatures {
  readonly block: number;
  /** Tokens of a sample, special ones included. */
  readonly tokens: number;
  readonly special: number;
  readonly hidden: number;
  readonly samples: number;
  /** Patch tokens kept of each sample. */
  readonly fitTokens: number;
  /** Which tokens those are, ascending, in 0 … tokens − 1. [samples, fitTokens] */
  readonly chosen: Int32Array;
  /** x of those tokens, not normalised. [samples, fitTokens, hidden] */
  readonly x: Float32Array;
  /** z of the class token, z = (x − mean x) / √(var x + 1e-6). [samples, hidden] */
  readonly classToken: Float32Array;
  /** Mean of z over the patch tokens, all of them. [samples, hidden] */
  readonly meanToken: Float32Array;
}

export const seamEpsilon = 1e-6;

/** z_class and the mean z of the patch tokens, [batch, hidden] each; x [batch · tokens, hidden]. */
export function tokenSummaries(
  g: GraphBuilder,
  x: Value,
  { batch, tokens, special, hidden }: { batch: number; tokens: number; special: number; hidden: number },
): { classToken: Value; meanToken: Value } {
  const one = g.constant(new Array<number>(hidden).fill(1), [hidden]);
  const zero = g.constant(new Array<number>(hidden).fill(0), [hidden]);
  const z = reshape(g, layerNormalization(g, x, one, zero, seamEpsilon).y, [batch, tokens, hidden]);
  const patches = slice(g, z, 1, special, tokens);
  return {
    classToken: squeeze(g, slice(g, z, 1, 0, 1), [1]),
    meanToken: reduceMean(g, patches, [1], false),
  };
}

/** Fits under this many bytes a stage are kept whole. */
const wholeBytes = 64 * 2 ** 20;
const fewTokens = 32;

/** How many patch tokens of each sample are kept for fitting. */
export function fitTokensOf(samples: number, patches: number, hidden: number, wanted: number | undefined): number {
  const whole = samples * patches * hidden * 4 <= wholeBytes;
  return Math.min(patches, wanted ?? (whole ? patches : fewTokens));
}

/** Collects the features of one seam batch by batch. */
export class FeatureCollector {
  private readonly chosen: Int32Array;
  private readonly x: Float32Array;
  private readonly classToken: Float32Array;
  private readonly meanToken: Float32Array;

  constructor(
    private readonly sizes: Omit<SeamFeatures, 'chosen' | 'x' | 'classToken' | 'meanToken'>,
    private readonly seed: number,
  ) {
    const { samples, fitTokens, hidden } = sizes;
    this.chosen = new Int32Array(samples * fitTokens);
    this.x = new Float32Array(samples * fitTokens * hidden);
    this.classToken = new Float32Array(samples * hidden);
    this.meanToken = new Float32Array(samples * hidden);
  }

  get fitTokens(): number {
    return this.sizes.fitTokens;
  }

  /** x [batch · tokens, hidden] and the summaries [batch, hidden] of the samples at positions `start` …, by their indices. */
  add(
    start: number,
    indices: readonly number[],
    { x, classToken, meanToken }: { x: Float32Array; classToken: Float32Array; meanToken: Float32Array },
  ): void {
    const { tokens, hidden, fitTokens } = this.sizes;
    indices.forEach((index, slot) => {
      const position = start + slot;
      this.classToken.set(classToken.subarray(slot * hidden, (slot + 1) * hidden), position * hidden);
      this.meanToken.set(meanToken.subarray(slot * hidden, (slot + 1) * hidden), position * hidden);
      this.choose(index).forEach((token, i) => {
        const to = position * fitTokens + i;
        const from = (slot * tokens + token) * hidden;
        this.chosen[to] = token;
        this.x.set(x.subarray(from, from + hidden), to * hidden);
      });
    });
  }

  /** The features of a shard, whose first sample is at the position `start`. */
  append(start: number, part: SeamFeatures): void {
    const { hidden, fitTokens } = this.sizes;
    this.chosen.set(part.chosen, start * fitTokens);
    this.x.set(part.x, start * fitTokens * hidden);
    this.classToken.set(part.classToken, start * hidden);
    this.meanToken.set(part.meanToken, start * hidden);
  }

  result(): SeamFeatures {
    const { chosen, x, classToken, meanToken } = this;
    return { ...this.sizes, chosen, x, classToken, meanToken };
  }

  /** Patch tokens of one sample, drawn by its index and the seed. */
  private choose(index: number): number[] {
    const { tokens, special, fitTokens } = this.sizes;
    const all = Array.from({ length: tokens - special }, (_, i) => special + i);
    if (fitTokens >= all.length) return all;
    const random = xoroshiro128plus(Math.imul(index + 1, 0x9e3779b1) ^ this.seed);
    for (let i = 0; i < 16; i++) random.next();
    // The first steps of a shuffle (Fisher & Yates).
    for (let i = 0; i < fitTokens; i++) {
      const j = uniformInt(random, i, all.length - 1);
      [all[i], all[j]] = [all[j]!, all[i]!];
    }
    return all.slice(0, fitTokens).sort((a, b) => a - b);
  }
}
