import { Counter, durationBuckets, Gauge, Histogram, type Registry } from '../../../libs/telemetry/metrics.js';
import type { BudgetPolicy } from '../inference/budget.js';
import type { Catalog, CatalogListener } from '../catalog/catalog.js';
import type { InferenceObserver, InferenceRecord } from '../inference/record.js';
import type { Execution } from '../scheduling/scheduler.js';
import { BUDGET } from '../catalog/served-version.js';

const VERSION = ['model', 'version'] as const;

/**
 * The server's metrics. Labels are bounded: only versions of the repository become labels, requests for anything else count as
 * `unknown`. Gauges of a version that is gone disappear.
 */
export class ServerMetrics implements InferenceObserver, CatalogListener {
  readonly #requests;
  readonly #duration;
  readonly #items;
  readonly #batch;
  readonly #tokens;
  readonly #flops;
  readonly #budget;
  readonly #ready;
  readonly #info;
  /** Runs that several calls share count once. */
  readonly #counted = new WeakSet<Execution>();
  #catalog: Catalog | undefined;
  #known = new Map<string, { model: string; version: string }>();

  constructor(registry: Registry, budgets: BudgetPolicy) {
    const registers = [registry];
    this.#requests = new Counter({
      name: 'heartwood_inference_requests_total',
      help: 'Requests that have ended, by outcome (OK or the gRPC code).',
      labelNames: [...VERSION, 'outcome'],
      registers,
    });
    this.#duration = new Histogram({
      name: 'heartwood_inference_duration_seconds',
      help: 'Time of answered requests by phase; total is from the message to the answer.',
      labelNames: [...VERSION, 'phase'],
      buckets: [...durationBuckets],
      registers,
    });
    this.#items = new Counter({
      name: 'heartwood_inference_items_total',
      help: 'Samples inferred.',
      labelNames: [...VERSION],
      registers,
    });
    this.#batch = new Histogram({
      name: 'heartwood_inference_batch_size',
      help: 'Samples of a run, of all requests that share it.',
      labelNames: [...VERSION],
      buckets: [1, 2, 4, 8, 16, 32, 64, 128],
      registers,
    });
    this.#tokens = new Histogram({
      name: 'heartwood_inference_tokens_kept_ratio',
      help: 'Tokens of a sample left after a stage over the tokens at the entry.',
      labelNames: [...VERSION, 'stage'],
      buckets: [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1],
      registers,
    });
    this.#flops = new Counter({
      name: 'heartwood_inference_flops_total',
      help: 'Floating-point operations executed, counted from the tokens that each stage kept.',
      labelNames: [...VERSION],
      registers,
    });
    this.#budget = new Histogram({
      name: 'heartwood_inference_budget_nats',
      help: 'Loss budget of a sample.',
      labelNames: [...VERSION],
      buckets: [0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3],
      registers,
    });
    this.#ready = new Gauge({
      name: 'heartwood_model_ready',
      help: '1 for a version that is loaded, 0 for one that is not (yet, or cannot be).',
      labelNames: [...VERSION],
      registers,
    });
    this.#info = new Gauge({
      name: 'heartwood_model_info',
      help: 'Always 1; the labels say how a version was made and whether it is the default.',
      labelNames: [...VERSION, 'architecture', 'policy', 'default'],
      registers,
    });
    this.#gaugeOfVersions(
      registry,
      'heartwood_model_queue_length',
      'Requests that wait or run.',
      (served) => served.scheduler.pending,
    );
    this.#gaugeOfVersions(
      registry,
      'heartwood_model_budget_nats',
      'The budget in force: what a request that names none gets.',
      (served) => (served.takes(BUDGET) ? budgets.budgetOf(served) : undefined),
    );
  }

  ended({ version, outcome, phases, run }: InferenceRecord): void {
    const labels = version
      ? { model: version.model, version: String(version.version) }
      : { model: 'unknown', version: 'unknown' };
    this.#requests.inc({ ...labels, outcome });
    if (!version || !run) return;
    for (const [phase, ms] of Object.entries(phases)) this.#duration.observe({ ...labels, phase }, ms / 1000);
    this.#items.inc(labels, run.batch);
    if (!this.#counted.has(run.execution)) {
      this.#counted.add(run.execution);
      this.#batch.observe(labels, run.execution.samples);
    }
    // prom-client throws on what is not finite, which would cost the counts that follow.
    this.#flops.inc(
      labels,
      run.flops.filter(Number.isFinite).reduce((sum, flops) => sum + flops, 0),
    );
    for (const budget of run.budget ?? []) if (Number.isFinite(budget)) this.#budget.observe(labels, budget);
    for (const kept of run.tokensKept) {
      kept.forEach((tokens, stage) => {
        const ratio = tokens / version.manifest.tokens.total;
        if (Number.isFinite(ratio)) this.#tokens.observe({ ...labels, stage: String(stage) }, ratio);
      });
    }
  }

  changed(catalog: Catalog): void {
    this.#catalog = catalog;
    this.#info.reset();
    const present = new Map<string, { model: string; version: string }>();
    for (const { model, version, manifest, state } of catalog.list()) {
      const labels = { model, version: String(version) };
      present.set(`${model}/${version}`, labels);
      this.#ready.set(labels, state.kind === 'ready' ? 1 : 0);
      if (!manifest) continue;
      const policy = manifest.method?.policy ?? 'none';
      const isDefault = catalog.default(model) === version ? 'true' : 'false';
      this.#info.set({ ...labels, architecture: manifest.architecture, policy, default: isDefault }, 1);
    }
    for (const [key, labels] of this.#known) if (!present.has(key)) this.#ready.remove(labels);
    this.#known = present;
  }

  /** A gauge that is read from the loaded versions when it is scraped. */
  #gaugeOfVersions(
    registry: Registry,
    name: string,
    help: string,
    read: (served: Parameters<BudgetPolicy['budgetOf']>[0]) => number | undefined,
  ): void {
    const catalogOf = () => this.#catalog;
    new Gauge({
      name,
      help,
      labelNames: [...VERSION],
      registers: [registry],
      collect() {
        this.reset();
        for (const { model, version, state } of catalogOf()?.list() ?? []) {
          const value = state.kind === 'ready' ? read(state.served) : undefined;
          if (value !== undefined) this.set({ model, version: String(version) }, value);
        }
      },
    });
  }
}
