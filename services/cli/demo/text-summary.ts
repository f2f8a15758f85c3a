import type { TextManifest } from '../../../libs/store/manifest.js';
import { mean, quantile } from '../measure/statistics.js';
import { flopsText, percent, short } from '../output.js';
import type { Continuation } from './text-traffic.js';

/** One version over the streamed texts. */
export interface TextVersionSummary {
  readonly version: number;
  readonly policy: string;
  /** Tokens that were judged, of documents that neither training nor the pruner saw. */
  readonly tokens: number;
  /** Mean cross-entropy of a token, nats, and its exponential. */
  readonly loss: number;
  readonly perplexity: number;
  /** The rise of that loss against version 1, nats. */
  readonly deltaLoss: number;
  /** What the pruner foretold, measured and bounded on its own data, KL; null for version 1. */
  readonly certified: { readonly predicted: number; readonly measured: number; readonly bound: number } | null;
  readonly lossBudget: number | null;
  /** Of a token. */
  readonly flops: number;
  readonly flopsSaved: number;
  /** Bytes of key and value that a token leaves in the caches. */
  readonly cacheBytes: number;
  readonly firstTokenMs: { readonly p50: number; readonly p95: number };
  /** Of one stream, the median prompt's. */
  readonly tokensPerSecond: number;
  /** Above what the machine takes when idle. */
  readonly joulesPerToken: number | null;
  /** The first prompt's continuation. */
  readonly sample: string;
}

/** Summarises a version's continuations and the losses of the tokens that it was shown, against version 1's. */
export function summariseText(
  manifest: TextManifest,
  continuations: readonly Continuation[],
  losses: readonly (readonly number[])[],
  dense: readonly (readonly number[])[],
): TextVersionSummary {
  const loss = mean(losses.flat());
  const firsts = continuations.map(({ firstTokenMs }) => firstTokenMs);
  const joules = continuations.map(({ joulesPerToken }) => joulesPerToken).filter((each) => each !== undefined);
  return {
    version: manifest.version,
    policy: manifest.method?.policy ?? 'unpruned',
    tokens: losses.flat().length,
    loss,
    perplexity: Math.exp(loss),
    deltaLoss: loss - mean(dense.flat()),
    certified: manifest.deltaLoss,
    lossBudget: manifest.method?.lossBudget ?? null,
    flops: manifest.flops.mean,
    flopsSaved: 1 - manifest.flops.mean / manifest.flops.dense,
    // Keys and values, float32.
    cacheBytes: manifest.text.caches.reduce((sum, { heads, width }) => sum + heads * width * 2 * 4, 0),
    firstTokenMs: { p50: quantile(firsts, 0.5), p95: quantile(firsts, 0.95) },
    tokensPerSecond: quantile(
      continuations.map(({ tokensPerSecond }) => tokensPerSecond),
      0.5,
    ),
    joulesPerToken: joules.length === 0 ? null : mean(joules),
    sample: continuations[0]?.text ?? '',
  };
}

/** The table of the text demo: a row a quantity, a column a version. */
export function textDemoTable(rows: readonly TextVersionSummary[]): { head: string[]; rows: string[][] } {
  const line = (name: string, cell: (row: TextVersionSummary) => string) => [name, ...rows.map(cell)];
  return {
    head: ['', ...rows.map(({ version, policy }) => `version ${version} (${policy})`)],
    rows: [
      line('perplexity of a token, unseen documents', ({ perplexity }) => short(perplexity)),
      line('mean loss (cross-entropy, nats)', ({ loss }) => short(loss)),
      line('its rise', ({ deltaLoss, certified }) => (certified ? short(deltaLoss) : '–')),
      line('ΔL budget (KL, nats)', ({ lossBudget }) => short(lossBudget)),
      line('ΔL predicted', ({ certified }) => short(certified?.predicted)),
      line('ΔL measured, certifying data', ({ certified }) => short(certified?.measured)),
      line('ΔL bound', ({ certified }) => short(certified?.bound)),
      line('FLOPs per token', ({ flops }) => flopsText(flops)),
      line('FLOPs saved', ({ flopsSaved, certified }) => (certified ? percent(flopsSaved) : '–')),
      line('cache per token', ({ cacheBytes }) => `${cacheBytes} B`),
      line('time to first token p50', ({ firstTokenMs }) => short(firstTokenMs.p50, 'ms')),
      line('time to first token p95', ({ firstTokenMs }) => short(firstTokenMs.p95, 'ms')),
      line('tokens/s, one stream', ({ tokensPerSecond }) => short(tokensPerSecond)),
      line('joules per token', ({ joulesPerToken }) =>
        joulesPerToken === null ? 'no meter' : short(joulesPerToken, 'J'),
      ),
    ],
  };
}
