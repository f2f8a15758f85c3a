import type { TokenDocument } from '../../../libs/data/text/dataset.js';
import { argmax, logitDivergence, logSumExp } from '../../../libs/pruning/measure/divergence.js';
import { meanInterval, type Interval } from '../../../libs/pruning/statistics/bound.js';
import type { ProgressEvent } from '../progress.js';
import { slidingWindows, type ScoredWindow } from './sliding-windows.js';
import type { LoadedTextVersion } from './text-version.js';

/** How a version does on text. Means are per token that was foretold; intervals are over documents. */
export interface TextEvaluation {
  readonly version: number;
  readonly policy: string;
  readonly documents: number;
  readonly tokens: number;
  readonly budget: number | null;
  /** Nats of a token. */
  readonly crossEntropy: number;
  /** exp of the cross-entropy, and of the ends of its interval. */
  readonly perplexity: number;
  readonly perplexityInterval: Interval | null;
  /** Share of the tokens that were the likeliest. */
  readonly accuracy: number;
  /** Mean KL(version 1 ‖ this version) in nats; null without version 1. */
  readonly kl: number | null;
  readonly klInterval: Interval | null;
  /** Of a token. */
  readonly flops: number;
  /** 1 − flops / those of version 1. */
  readonly flopsSaved: number;
  /** That a decoded token reads; null where the version does not say. */
  readonly bytes: number | null;
}

export interface TextEvaluationOptions {
  /** Tokens of a window. */
  readonly window: number;
  /** Tokens by which it moves on; those that are new are scored. */
  readonly stride: number;
  readonly signal: AbortSignal;
  readonly progress: (event: ProgressEvent) => void;
}

/** Sums over the tokens of one document. */
interface DocumentSums {
  tokens: number;
  loss: number;
  right: number;
  kl: number;
}

/** Bytes that the logits of one run may take. */
const logitBytes = 64 * 2 ** 20;
const confidence = 0.95;

/**
 * Runs every version over the same documents by a sliding window: every token but a document's first is scored once, with at least
 * `window − stride` tokens before it (where there are as many). `baseline` (version 1) is what the KL is to. Logits are held of a few
 * tokens at a time.
 */
export async function evaluateText(
  versions: readonly LoadedTextVersion[],
  baseline: LoadedTextVersion | undefined,
  documents: readonly TokenDocument[],
  options: TextEvaluationOptions,
): Promise<TextEvaluation[]> {
  const sums = new Map(
    versions.map((version) => [version, documents.map(() => ({ tokens: 0, loss: 0, right: 0, kl: 0 }))]),
  );
  const { vocabulary } = versions[0]!.manifest.text;
  const atOnce = Math.max(16, Math.floor(logitBytes / (4 * vocabulary)));
  for (const [at, { ids }] of documents.entries()) {
    for (const { start, end, scored } of slidingWindows(ids.length, options.window, options.stride)) {
      const window = ids.subarray(start, end);
      for (let from = scored; from < end; from += atOnce) {
        options.signal.throwIfAborted();
        const part = { start, end, scored: from, until: Math.min(end, from + atOnce) };
        await scorePart(versions, baseline, window, part, (version) => sums.get(version)![at]!, options.signal);
      }
    }
    options.progress({ stage: 'evaluate', done: at + 1, total: documents.length, unit: 'documents' });
  }
  return versions.map((version) => summarise(version, sums.get(version)!, baseline !== undefined));
}

/** The tokens of a window from `scored` to `until`: each is foretold by the one before it. */
async function scorePart(
  versions: readonly LoadedTextVersion[],
  baseline: LoadedTextVersion | undefined,
  window: Int32Array,
  { start, scored, until }: ScoredWindow & { readonly until: number },
  sumsOf: (version: LoadedTextVersion) => DocumentSums,
  signal: AbortSignal,
): Promise<void> {
  const wanted = Array.from({ length: until - scored }, (_, at) => scored - 1 - start + at);
  const run = (version: LoadedTextVersion) => version.logits(window, wanted, signal);
  const dense = baseline && (await run(baseline));
  for (const version of versions) {
    const logits = version === baseline && dense ? dense : await run(version);
    const classes = logits.length / wanted.length;
    const sum = sumsOf(version);
    for (const [row, place] of wanted.entries()) {
      const own = logits.subarray(row * classes, (row + 1) * classes);
      const target = window[place + 1]!;
      const levelQ = logSumExp(own);
      sum.tokens += 1;
      sum.loss += levelQ - own[target]!;
      sum.right += argmax(own) === target ? 1 : 0;
      if (dense) sum.kl += logitDivergence(dense.subarray(row * classes, (row + 1) * classes), own, { levelQ });
    }
  }
}

function summarise(
  { version, manifest, budget }: LoadedTextVersion,
  all: readonly DocumentSums[],
  compared: boolean,
): TextEvaluation {
  const documents = all.filter(({ tokens }) => tokens > 0);
  const weights = documents.map(({ tokens }) => tokens);
  const tokens = weights.reduce((sum, n) => sum + n, 0);
  const total = (value: (sums: DocumentSums) => number) => documents.reduce((sum, each) => sum + value(each), 0);
  const interval = (value: (sums: DocumentSums) => number) =>
    documents.length < 2
      ? null
      : meanInterval(
          documents.map((each) => value(each) / each.tokens),
          weights,
          confidence,
        );
  const crossEntropy = total(({ loss }) => loss) / tokens;
  const lossInterval = interval(({ loss }) => loss);
  const { flops } = manifest;
  return {
    version,
    policy: manifest.method?.policy ?? 'unpruned',
    documents: documents.length,
    tokens,
    budget,
    crossEntropy,
    perplexity: Math.exp(crossEntropy),
    perplexityInterval: lossInterval && { low: Math.exp(lossInterval.low), high: Math.exp(lossInterval.high) },
    accuracy: total(({ right }) => right) / tokens,
    kl: compared ? total(({ kl }) => kl) / tokens : null,
    klInterval: compared ? interval(({ kl }) => kl) : null,
    flops: flops.mean,
    flopsSaved: 1 - flops.mean / flops.dense,
    bytes: manifest.text.bytesPerToken ?? null,
  };
}
