import { Gauge, type Registry } from '../../../libs/telemetry/metrics.js';
import type { Catalog, CatalogListener } from '../catalog/catalog.js';
import type { CatalogVersion } from '../catalog/version-table.js';
import { NOT_LOADED, UNLOADED } from '../catalog/load-control.js';
import type { BudgetPolicy } from '../inference/budget.js';
import { VERSION, versionLabels } from './version-labels.js';

interface Reading {
  readonly value: number;
  /** Beside the version's. */
  readonly labels?: Readonly<Record<string, string>>;
}

interface VersionGauge {
  readonly name: string;
  readonly help: string;
  /** Beside the version's. */
  readonly labels?: readonly string[];
  /** Undefined: no series of that version. */
  read(version: CatalogVersion, catalog: Catalog, budgets: BudgetPolicy): Reading | number | undefined;
}

/** What is told of the versions that the repository has, read when it is scraped: one entry, one metric. */
const gauges: readonly VersionGauge[] = [
  {
    name: 'heartwood_model_ready',
    help: '1 for a version that is loaded, 0 for one that is not (yet, or cannot be, or is not to be).',
    read: ({ state }) => (state.kind === 'ready' ? 1 : 0),
  },
  {
    name: 'heartwood_model_load_failed',
    help: '1 for a version that was to be loaded and cannot be, else 0.',
    read: ({ state }) => (state.kind === 'unavailable' && ![NOT_LOADED, UNLOADED].includes(state.reason) ? 1 : 0),
  },
  {
    name: 'heartwood_model_info',
    help: 'Always 1; the labels say how a version was made, whether it is the default, and which provider runs it (none while it is not loaded).',
    labels: ['architecture', 'policy', 'default', 'provider'],
    read: ({ model, version, manifest, state }, catalog) => {
      if (!manifest) return undefined;
      const policy = manifest.method?.policy ?? 'none';
      const isDefault = catalog.default(model) === version ? 'true' : 'false';
      const provider = state.kind === 'ready' ? state.served.provider : 'none';
      return { value: 1, labels: { architecture: manifest.architecture, policy, default: isDefault, provider } };
    },
  },
  {
    name: 'heartwood_model_dense_flops',
    help: 'Floating-point operations of a sample if nothing were pruned.',
    read: ({ manifest }) => manifest?.flops.dense,
  },
  {
    name: 'heartwood_model_queue_length',
    help: 'Requests that wait.',
    read: ({ state }) => (state.kind === 'ready' ? state.served.waiting : undefined),
  },
  {
    name: 'heartwood_model_running_requests',
    help: 'Requests whose run is under way.',
    read: ({ state }) => (state.kind === 'ready' ? state.served.running : undefined),
  },
  {
    name: 'heartwood_model_oldest_waiting_seconds',
    help: 'How long the oldest request that waits has waited, 0 where none does.',
    read: ({ state }) => {
      const ms = state.kind === 'ready' ? state.served.oldestWaitingMs : undefined;
      return ms === undefined ? undefined : ms / 1000;
    },
  },
  {
    name: 'heartwood_model_budget_nats',
    help: 'The budget in force: what a request that names none gets.',
    read: ({ state }, _catalog, budgets) =>
      state.kind === 'ready' && state.served.manifest.budget !== null ? budgets.budgetOf(state.served) : undefined,
  },
];

/** Gauges of the versions; those of a version that is gone disappear with it. */
export class VersionMetrics implements CatalogListener {
  #catalog: Catalog | undefined;

  constructor(registry: Registry, budgets: BudgetPolicy) {
    const catalogOf = () => this.#catalog;
    for (const { name, help, labels = [], read } of gauges) {
      new Gauge({
        name,
        help,
        labelNames: [...VERSION, ...labels],
        registers: [registry],
        collect() {
          this.reset();
          const catalog = catalogOf();
          for (const version of catalog?.list() ?? []) {
            const reading = read(version, catalog!, budgets);
            if (reading === undefined) continue;
            const { value, labels } = typeof reading === 'number' ? { value: reading, labels: {} } : reading;
            this.set({ ...versionLabels(version), ...labels }, value);
          }
        },
      });
    }
  }

  changed(catalog: Catalog): void {
    this.#catalog = catalog;
  }
}
