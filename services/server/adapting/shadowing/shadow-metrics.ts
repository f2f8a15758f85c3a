import { Counter, Gauge, Histogram, type Registry } from '../../../../libs/telemetry/metrics.js';
import type { ServedVersion } from '../../catalog/served-version.js';
import type { SampleDivergence } from './divergence.js';
import type { LossWatch } from './loss-watch.js';

const VERSION = ['model', 'version'] as const;

/**
 * What became of a call that was picked: `compared`; `dropped`, because too many wait already; `unavailable`, because version 1 is not
 * loaded or could not run; `incomparable`, because the two do not take the same inputs or answer the same logits.
 */
export type ShadowOutcome = 'compared' | 'dropped' | 'unavailable' | 'incomparable';

/** What shadowing found, by the version that answered. */
export class ShadowMetrics {
  readonly #requests;
  readonly #agreements;
  readonly #kl;
  readonly #ratio;

  constructor(registry: Registry, watches: () => ReadonlyMap<ServedVersion, LossWatch>) {
    const registers = [registry];
    this.#requests = new Counter({
      name: 'heartwood_shadow_requests_total',
      help: 'Answered requests picked to be sent to version 1 too, by what became of them.',
      labelNames: [...VERSION, 'outcome'],
      registers,
    });
    this.#agreements = new Counter({
      name: 'heartwood_shadow_agreements_total',
      help: 'Samples (of texts: tokens) compared that version 1 puts the same class first of; heartwood_shadow_kl_nats_count has how many were compared.',
      labelNames: [...VERSION],
      registers,
    });
    this.#kl = new Histogram({
      name: 'heartwood_shadow_kl_nats',
      help: 'KL(version 1 ‖ this version) of a sample (of texts: a predicted token), at whatever budget it was answered.',
      labelNames: [...VERSION],
      buckets: [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3],
      registers,
    });
    this.#ratio = new Histogram({
      name: 'heartwood_shadow_latency_ratio',
      help: 'Compute time of this version over that of version 1 on the same request, where each ran it alone; of a text of reading it once more.',
      labelNames: [...VERSION],
      buckets: [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.2, 1.5, 2, 4],
      registers,
    });
    const gauge = (name: string, help: string, read: (watch: LossWatch) => number | undefined): void => {
      new Gauge({
        name,
        help,
        labelNames: [...VERSION],
        registers,
        collect() {
          this.reset();
          for (const [served, watch] of watches()) {
            const value = read(watch);
            if (value !== undefined) this.set(labelsOf(served), value);
          }
        },
      });
    };
    gauge(
      'heartwood_shadow_budget_broken',
      '1 when live samples break the loss that the version promised: the two gauges beside this one compared; else 0.',
      ({ broken }) => (broken ? 1 : 0),
    );
    gauge(
      'heartwood_shadow_promised_loss_nats',
      'Mean KL to version 1 that the version promised at its default budget.',
      ({ promised }) => promised,
    );
    gauge(
      'heartwood_shadow_kl_lower_bound_nats',
      'Lower 95 % confidence bound of the mean KL over the latest samples (texts, by their tokens) at the default budget.',
      ({ lowerBound }) => lowerBound,
    );
  }

  picked(served: ServedVersion, outcome: ShadowOutcome): void {
    this.#requests.inc({ ...labelsOf(served), outcome });
  }

  sample(served: ServedVersion, { agrees, kl }: SampleDivergence): void {
    this.#kl.observe(labelsOf(served), kl);
    this.#agreements.inc(labelsOf(served), agrees ? 1 : 0);
  }

  /** Times of computing the same request alone, by this version and by version 1, milliseconds. */
  times(served: ServedVersion, servedMs: number, firstMs: number): void {
    if (firstMs > 0 && Number.isFinite(servedMs / firstMs)) this.#ratio.observe(labelsOf(served), servedMs / firstMs);
  }
}

function labelsOf({ model, version }: ServedVersion): { model: string; version: string } {
  return { model, version: String(version) };
}
