/** What a comparison comes to: what the table, the JSON, the report and the wire all say. */

/** The measures in which a version is set against the first one. */
export const measures = [
  'latencyP50',
  'latencyP95',
  'latencyP99',
  'firstTokenP50',
  'firstTokenP95',
  'nextTokenP50',
  'nextTokenP95',
  'throughput',
  'joules',
  'flops',
  'accuracy',
  'crossEntropy',
  'agreement',
  'kl',
  'sameBeginning',
] as const;
export type Measure = (typeof measures)[number];

/**
 * - `ratio`: this version's over the first one's
 * - `difference`: this version's less the first one's
 * - `against`: the measure itself, which is one of this version against the first
 */
export type DifferenceKind = 'ratio' | 'difference' | 'against';

export const differenceKinds: Readonly<Record<Measure, DifferenceKind>> = {
  latencyP50: 'ratio',
  latencyP95: 'ratio',
  latencyP99: 'ratio',
  firstTokenP50: 'ratio',
  firstTokenP95: 'ratio',
  nextTokenP50: 'ratio',
  nextTokenP95: 'ratio',
  throughput: 'ratio',
  joules: 'ratio',
  flops: 'ratio',
  accuracy: 'difference',
  crossEntropy: 'difference',
  agreement: 'against',
  kl: 'against',
  sameBeginning: 'against',
};

export interface Difference {
  readonly kind: DifferenceKind;
  readonly value: number;
  /** The confidence interval; null where there is too little to take one from. */
  readonly interval: { readonly low: number; readonly high: number } | null;
  /** Whether a quantile rests on so few requests beyond it that its interval is more a hint than a guarantee. */
  readonly thin: boolean;
}

/** What a comparison of texts measures beside. */
export interface TextComparison {
  /** Generated for a sample, on average. */
  readonly tokens: number;
  /** Milliseconds from a request to its first token. */
  readonly firstToken: { readonly p50: number; readonly p95: number };
  /** Milliseconds a token after the first, a text's mean. */
  readonly nextToken: { readonly p50: number; readonly p95: number };
  /** With all requests that are under way. */
  readonly tokensPerSecond: number;
  /** Of the whole machine, a generated token; null without a meter. */
  readonly joulesPerToken: number | null;
  /** Share of the generated tokens before the text parts from the first version's. */
  readonly sameBeginning: number;
  /** Tokens that were foretold, of all texts: `agreement` and `kl` are means over them. */
  readonly predictions: number;
  /** Mean KL by the place of the token that was foretold, the first right behind the prompt; empty where there is none. */
  readonly klByPosition: readonly number[];
}

export interface VersionComparison {
  readonly version: number;
  readonly policy: string;
  /** Mean nats per sample that it was asked for; null where it has no budget. */
  readonly budget: number | null;
  /** Milliseconds of a request. `distribution` has the quantiles 0, 0.01 … 1. */
  readonly latency: {
    readonly p50: number;
    readonly p95: number;
    readonly p99: number;
    readonly mean: number;
    readonly distribution: readonly number[];
  };
  /** Samples a second. */
  readonly throughput: number;
  /** Of the whole machine, a sample; null without a meter. */
  readonly joules: number | null;
  /** Executed for a sample. */
  readonly flops: number;
  /** Mean tokens after each stage. */
  readonly tokensKept: readonly number[];
  /** Null without labels, as is the mean cross-entropy with them, in nats. */
  readonly accuracy: number | null;
  readonly crossEntropy: number | null;
  /**
   * Share of the samples on which it answers as the first version does. Of texts, of the tokens that follow the prompts in them: whether both
   * take the same token for the likeliest behind the same ones; null where none was foretold.
   */
  readonly agreement: number | null;
  /** Mean KL(first version ‖ this one), nats per sample, of texts per such prediction; null as `agreement`. */
  readonly kl: number | null;
  /** Of a language model, whose samples are texts; else null. */
  readonly text: TextComparison | null;
  /** Against the first version; null for that one itself. A measure that was not taken is not in it. */
  readonly differences: Readonly<Partial<Record<Measure, Difference>>> | null;
}

export interface ComparisonResult {
  readonly versions: readonly VersionComparison[];
  /** Of each version. */
  readonly samples: number;
  readonly requests: number;
  /** Turns that every version had. */
  readonly rounds: number;
  readonly batch: number;
  readonly concurrency: number;
  readonly warmup: number;
  readonly seed: number;
  readonly confidence: number;
  /** What was read for the joules; null without a meter. */
  readonly meter: string | null;
}
