import {
  Counter,
  durationBuckets,
  exemplarHistogram,
  Histogram,
  type Registry,
} from '../../../libs/telemetry/metrics.js';
import type { Catalog, CatalogListener } from '../catalog/catalog.js';
import type { InferenceObserver, InferenceRecord, InferenceRun } from '../inference/record.js';
import type { Execution } from '../scheduling/scheduler.js';
import { executedFlops } from './executed-flops.js';
import { VERSION, versionLabels } from './version-labels.js';

/** A value to count or observe, and the labels that it has beside the version's. */
type Reading = readonly [value: number, labels?: Readonly<Record<string, string>>];

/** A call that came to an answer. */
interface Answered {
  readonly record: InferenceRecord;
}

/** A call of a classifier, whose run has ended; `firstOfRun` is true for one of the calls that share a run. */
interface EndedRun extends Answered {
  readonly run: InferenceRun;
  readonly firstOfRun: boolean;
}

interface Measure<Ended extends Answered> {
  readonly kind: 'counter' | 'histogram' | 'exemplars';
  readonly name: string;
  readonly help: string;
  /** Beside the version's. */
  readonly labels?: readonly string[];
  /** Upper bounds, of a histogram. */
  readonly buckets?: readonly number[];
  read(ended: Ended): Iterable<Reading>;
}

/** What is told of every call that came to an answer: one entry, one metric. Values that are not finite are left out. */
const answeredMeasures: readonly Measure<Answered>[] = [
  {
    kind: 'exemplars',
    name: 'heartwood_inference_duration_seconds',
    help: 'Time of answered requests by phase; total is from the message to the answer.',
    labels: ['phase'],
    buckets: durationBuckets,
    read: ({ record }) => Object.entries(record.phases).map(([phase, ms]) => [ms / 1000, { phase }]),
  },
];

/** What is told of the calls of classifiers. */
const runMeasures: readonly Measure<EndedRun>[] = [
  {
    kind: 'counter',
    name: 'heartwood_inference_items_total',
    help: 'Samples inferred.',
    read: ({ run }) => [[run.batch]],
  },
  {
    kind: 'histogram',
    name: 'heartwood_inference_batch_size',
    help: 'Samples of a run, of all requests that share it.',
    buckets: [1, 2, 4, 8, 16, 32, 64, 128],
    read: ({ run, firstOfRun }) => (firstOfRun ? [[run.execution.samples]] : []),
  },
  {
    kind: 'counter',
    name: 'heartwood_inference_compute_seconds_total',
    help: 'Time that workers spent in runs; a run that several requests share counts once.',
    read: ({ run: { execution }, firstOfRun }) =>
      firstOfRun ? [[Math.max(0, execution.endedAt - execution.startedAt) / 1000]] : [],
  },
  {
    kind: 'histogram',
    name: 'heartwood_inference_tokens_kept_ratio',
    help: 'Tokens of a sample left after a stage over the tokens at the entry.',
    labels: ['stage'],
    buckets: [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1],
    read: ({ run: { tokens, tokensKept } }) =>
      tokensKept.flatMap((kept) => kept.map((left, stage): Reading => [left / tokens, { stage: String(stage) }])),
  },
  {
    kind: 'histogram',
    name: 'heartwood_inference_budget_nats',
    help: 'Loss budget of a sample.',
    buckets: [0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3],
    read: ({ run }) => (run.budget ?? []).map((budget) => [budget]),
  },
];

/** Outcomes that alerts are about: their series are there from the start, so that the first of them is an increase. */
const expected: readonly InferenceRecord['outcome'][] = [
  'OK',
  'RESOURCE_EXHAUSTED',
  'DEADLINE_EXCEEDED',
  'UNAVAILABLE',
  'INTERNAL',
];

/**
 * What the calls leave in the metrics, by version. Labels are bounded: only versions of the repository become labels, requests for anything
 * else count as `unknown`.
 */
export class InferenceMetrics implements InferenceObserver, CatalogListener {
  readonly #requests;
  readonly #answered: (ended: Answered) => void;
  readonly #ran: (ended: EndedRun) => void;
  /** Runs that several calls share count once. */
  readonly #counted = new WeakSet<Execution>();

  /** @param flops see `executedFlops`; language models tell of theirs elsewhere */
  constructor(
    registry: Registry,
    private readonly flops = executedFlops(registry),
  ) {
    this.#requests = new Counter({
      name: 'heartwood_inference_requests_total',
      help: 'Requests that have ended, by outcome (OK or the gRPC code).',
      labelNames: [...VERSION, 'outcome'],
      registers: [registry],
    });
    this.#answered = teller(registry, answeredMeasures);
    this.#ran = teller(registry, runMeasures);
  }

  ended(record: InferenceRecord): void {
    const { version, outcome, run, text } = record;
    this.#requests.inc({ ...versionLabels(version), outcome });
    if (!version || (!run && !text)) return;
    this.#answered({ record });
    if (!run) return;
    const firstOfRun = !this.#counted.has(run.execution);
    this.#counted.add(run.execution);
    this.#ran({ record, run, firstOfRun });
    for (const flops of run.flops) if (Number.isFinite(flops)) this.flops.inc({ ...versionLabels(version) }, flops);
  }

  changed(catalog: Catalog): void {
    for (const version of catalog.list()) {
      for (const outcome of expected) this.#requests.inc({ ...versionLabels(version), outcome }, 0);
    }
  }
}

/** Registers measures; how all of them are told. */
function teller<Ended extends Answered>(
  registry: Registry,
  measures: readonly Measure<Ended>[],
): (ended: Ended) => void {
  const tell = measures.map((measure) => {
    const observe = observer(registry, measure);
    return (ended: Ended) => {
      // prom-client throws on what is not finite, which would cost the counts that follow.
      for (const reading of measure.read(ended)) if (Number.isFinite(reading[0])) observe(reading, ended.record);
    };
  });
  return (ended) => {
    for (const each of tell) each(ended);
  };
}

/** Registers a measure; how a reading of it is told. */
function observer(
  registry: Registry,
  measure: Omit<Measure<never>, 'read'>,
): (reading: Reading, record: InferenceRecord) => void {
  const { kind, name, help, labels = [], buckets = [] } = measure;
  const configuration = { name, help, labelNames: [...VERSION, ...labels] };
  const labelsOf = ([, labels]: Reading, { version }: InferenceRecord) => ({ ...versionLabels(version), ...labels });
  switch (kind) {
    case 'counter': {
      const counter = new Counter({ ...configuration, registers: [registry] });
      return (reading, record) => counter.inc(labelsOf(reading, record), reading[0]);
    }
    case 'histogram': {
      const histogram = new Histogram({ ...configuration, buckets: [...buckets], registers: [registry] });
      return (reading, record) => histogram.observe(labelsOf(reading, record), reading[0]);
    }
    case 'exemplars': {
      const histogram = exemplarHistogram(registry, { ...configuration, buckets: [...buckets] });
      return (reading, record) => {
        const exemplar = record.trace ? { exemplarLabels: record.trace } : {};
        histogram.observe({ labels: labelsOf(reading, record), value: reading[0], ...exemplar });
      };
    }
  }
}
