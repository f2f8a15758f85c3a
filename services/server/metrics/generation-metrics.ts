import { Counter, Gauge, Histogram, type Registry } from '../../../libs/telemetry/metrics.js';
import type { Catalog, CatalogListener } from '../catalog/catalog.js';
import { readyVersions } from '../catalog/version-table.js';
import { isClassifier } from '../catalog/served-version.js';
import type { TextManifest } from '../../../libs/store/manifest.js';
import { textFlopsOf } from '../inference/text-flops.js';
import type { EngineLoad } from '../generation/engine.js';
import { finishReasons } from '../generation/event.js';
import type { GenerationObserver } from '../generation/observer.js';
import { VERSION, type VersionLabels, versionLabels } from './version-labels.js';

/** Seconds from a request to its first token: a short prompt on an idle machine to a long one behind others. */
const firstTokenBuckets: readonly number[] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80];
/** Seconds between two tokens of a text. */
const interTokenBuckets: readonly number[] = [
  0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2.5,
];

/** What is told of an engine's load when it is scraped: one entry, one metric. */
const gauges: readonly { name: string; help: string; read(load: EngineLoad): number }[] = [
  {
    name: 'heartwood_generation_cache_rows',
    help: 'Requests that the caches of a version have room for.',
    read: ({ rows }) => rows,
  },
  {
    name: 'heartwood_generation_cached_tokens',
    help: 'Tokens that the requests under way hold in the caches.',
    read: ({ cachedTokens }) => cachedTokens,
  },
  {
    name: 'heartwood_generation_cache_tokens',
    help: 'Tokens that the caches have room for.',
    read: ({ cacheTokens }) => cacheTokens,
  },
  {
    name: 'heartwood_generation_cache_bytes',
    help: 'Bytes of the caches when they are full; memory is taken as it is touched.',
    read: ({ cacheBytes }) => cacheBytes,
  },
];

/** What language models leave in the metrics, by version. Requests and their durations are told as those of classifiers are. */
export class GenerationMetrics implements CatalogListener {
  readonly #firstToken;
  readonly #interToken;
  readonly #tokens;
  readonly #compute;
  readonly #rows;
  readonly #finished;
  readonly #reused;
  #catalog: Catalog | undefined;

  /** @param flops see `executedFlops` */
  constructor(
    registry: Registry,
    private readonly flops: Counter<'model' | 'version'>,
  ) {
    const registers = [registry];
    const labelNames = [...VERSION];
    this.#firstToken = new Histogram({
      name: 'heartwood_generation_first_token_seconds',
      help: 'Time from a request to its first token.',
      buckets: [...firstTokenBuckets],
      labelNames,
      registers,
    });
    this.#interToken = new Histogram({
      name: 'heartwood_generation_inter_token_seconds',
      help: 'Time between two tokens of a text.',
      buckets: [...interTokenBuckets],
      labelNames,
      registers,
    });
    this.#tokens = new Counter({
      name: 'heartwood_generation_tokens_total',
      help: 'Tokens that ran through the model: of prompts (prefill), and drawn ones (decode).',
      labelNames: [...VERSION, 'phase'],
      registers,
    });
    this.#compute = new Counter({
      name: 'heartwood_generation_compute_seconds_total',
      help: 'Time that the worker spent in runs over prompts (prefill) and drawn tokens (decode).',
      labelNames: [...VERSION, 'phase'],
      registers,
    });
    this.#rows = new Histogram({
      name: 'heartwood_generation_decode_rows',
      help: 'Requests that a decode run drew a token for.',
      buckets: [1, 2, 4, 8, 16, 32, 64],
      labelNames,
      registers,
    });
    this.#finished = new Counter({
      name: 'heartwood_generation_finished_total',
      help: 'Texts that came to their end: by a stop string, by the model (eos), or by length.',
      labelNames: [...VERSION, 'reason'],
      registers,
    });
    this.#reused = new Counter({
      name: 'heartwood_generation_reused_prompt_tokens_total',
      help: 'Prompt tokens that an earlier prompt which began alike had computed already.',
      labelNames,
      registers,
    });
    const catalogOf = () => this.#catalog;
    for (const { name, help, read } of gauges) {
      new Gauge({
        name,
        help,
        labelNames,
        registers,
        collect() {
          this.reset();
          const catalog = catalogOf();
          for (const version of catalog ? readyVersions(catalog) : [])
            if (!isClassifier(version)) this.set(versionLabels(version), read(version.engine.load));
        },
      });
    }
  }

  /** What an engine of this version is watched by. */
  observer(manifest: TextManifest): GenerationObserver {
    const labels: VersionLabels = versionLabels(manifest);
    const flopsOf = textFlopsOf(manifest);
    // There from the start, so that the first of them is an increase.
    const phases = { prefill: { ...labels, phase: 'prefill' }, decode: { ...labels, phase: 'decode' } };
    this.flops.inc({ ...labels }, 0);
    for (const phase of Object.values(phases)) this.#tokens.inc(phase, 0);
    for (const reason of finishReasons) this.#finished.inc({ ...labels, reason }, 0);
    return {
      firstToken: (ms) => this.#firstToken.observe(labels, ms / 1000),
      nextToken: (ms) => this.#interToken.observe(labels, ms / 1000),
      stepped: ({ kind, rows, tokens, wasted, kept, execution }) => {
        this.flops.inc({ ...labels }, flopsOf(tokens, kept));
        this.#tokens.inc(phases[kind], tokens - wasted);
        this.#compute.inc(phases[kind], Math.max(0, execution.endedAt - execution.startedAt) / 1000);
        if (kind === 'decode' && rows > 0) this.#rows.observe(labels, rows);
      },
      ended: ({ finishReason, usage }) => {
        if (finishReason !== undefined) this.#finished.inc({ ...labels, reason: finishReason });
        this.#reused.inc(labels, usage.cachedTokens);
      },
    };
  }

  changed(catalog: Catalog): void {
    this.#catalog = catalog;
  }
}
