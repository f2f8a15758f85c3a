import { cpus } from 'node:os';
import type { ComparisonResult, Measure, VersionComparison } from '../../server/comparison/result.js';
import { accuracyCurve } from './charts.js';
import { type IntervalRow, intervalChart, latencyChart } from './comparison-charts.js';
import { html, type Html } from './html.js';
import { textSections } from './text-sections.js';
import type { TextShape } from './text-shape.js';
import { factsOf, renderPage, type Table, tableOf } from './page.js';

/** Everything that the report of a comparison shows. */
export interface ComparisonReport {
  readonly model: string;
  readonly result: ComparisonResult;
  readonly table: Table;
  /** What was measured and how, a sentence each. */
  readonly notes: readonly string[];
  readonly data: { readonly name: string; readonly digest: string };
  /** Of the versions of a language model, where their manifests are at hand. */
  readonly shapes?: readonly TextShape[];
  /** What else was measured, shown before the rest. */
  readonly lead?: Table;
}

/** A comparison as one HTML file that needs nothing else. */
export function renderComparison({ model, result, table, notes, data, shapes = [], lead }: ComparisonReport): string {
  const { versions, samples, seed, warmup } = result;
  const numbers = versions.map(({ version }) => version).join(', ');
  return renderPage({
    title: `Heartwood: versions ${numbers} of ${model}`,
    summary: `${samples} samples of ${data.name}, answered by every version, interleaved.`,
    body: [
      lead && tableOf(lead),
      tableOf(table),
      ...notes.map((note) => html`<p>${note}</p>`),
      html`<h2>Latency</h2>
        <p>The share of the requests that were answered within a time.</p>
        <div class="scroll">${latencyChart(versions)}</div>`,
      ratiosOf(versions, result.confidence),
      sharesOf(versions, result.confidence),
      curveOf(versions),
      ...textSections(versions, shapes),
      factsOf([
        ['data', `${data.name}, digest ${data.digest}`],
        ['requests not counted, of each version', String(warmup)],
        ['seed', String(seed)],
        ['this machine', `${cpus().length} cores, ${cpus()[0]?.model.trim() ?? 'unknown'}`],
      ]),
    ],
  });
}

const ratios: readonly (readonly [Measure, string])[] = [
  ['latencyP50', 'latency p50'],
  ['latencyP95', 'latency p95'],
  ['latencyP99', 'latency p99'],
  ['firstTokenP50', 'first token p50'],
  ['firstTokenP95', 'first token p95'],
  ['nextTokenP50', 'each token after p50'],
  ['nextTokenP95', 'each token after p95'],
  ['throughput', 'samples/s'],
  ['joules', 'joules'],
  ['flops', 'FLOPs'],
];

function rowsOf(
  versions: readonly VersionComparison[],
  measures: readonly (readonly [Measure, string])[],
  scale: (value: number) => number,
): IntervalRow[] {
  return measures.flatMap(([measure, name]) =>
    versions.flatMap(({ version, differences }) => {
      const difference = differences?.[measure];
      if (!difference) return [];
      const { value, interval } = difference;
      const row = { name: `${name}, version ${version}`, value: scale(value) };
      return interval === null ? [row] : [{ ...row, low: scale(interval.low), high: scale(interval.high) }];
    }),
  );
}

function ratiosOf(versions: readonly VersionComparison[], confidence: number): Html | undefined {
  const rows = rowsOf(versions, ratios, (value) => value);
  if (rows.length === 0) return undefined;
  return html`<h2>Against version ${versions[0]!.version}</h2>
    <p>
      Each measure over that of version ${versions[0]!.version}, with its ${(100 * confidence).toPrecision(3)} %
      interval; 1 is no difference.
    </p>
    <div class="scroll">${intervalChart(rows, { reference: 1, name: 'ratio' })}</div>`;
}

function sharesOf(versions: readonly VersionComparison[], confidence: number): Html | undefined {
  const rows = rowsOf(versions, [['accuracy', 'accuracy']], (value) => 100 * value);
  if (rows.length === 0) return undefined;
  return html`<h2>Accuracy</h2>
    <p>
      Accuracy less that of version ${versions[0]!.version} on the same samples, in percentage points, with its
      ${(100 * confidence).toPrecision(3)} % interval.
    </p>
    <div class="scroll">${intervalChart(rows, { reference: 0, name: 'percentage points' })}</div>`;
}

function curveOf(versions: readonly VersionComparison[]): Html | undefined {
  const points = versions.flatMap(({ version, policy, budget, flops, accuracy }) =>
    accuracy === null
      ? []
      : [{ name: `version ${version}`, budget: policy === 'unpruned' ? null : (budget ?? 0), flops, accuracy }],
  );
  if (points.length === 0) return undefined;
  return html`<h2>Accuracy against FLOPs</h2>
    <div class="scroll">${accuracyCurve(points)}</div>`;
}
