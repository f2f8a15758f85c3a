import { Counter, Gauge, type Registry } from '../../../../libs/telemetry/metrics.js';

/** What there is to read of a version that is controlled. */
export interface ControllerReading {
  readonly model: string;
  readonly version: number;
  readonly budget: number;
  readonly objectiveMs: number;
  /** Undefined while too few calls have ended. */
  readonly p95Ms: number | undefined;
  readonly exhausted: boolean;
}

const VERSION = ['model', 'version'] as const;

const gauges: readonly [name: string, help: string, read: (reading: ControllerReading) => number | undefined][] = [
  ['budget_nats', 'Budget that the controller has put in force.', ({ budget }) => budget],
  ['objective_seconds', 'Latency that 95 % of the calls are to keep.', ({ objectiveMs }) => objectiveMs / 1000],
  [
    'latency_p95_seconds',
    'The 95th percentile of the latency since the last change, as the controller sees it; +Inf: calls are refused.',
    ({ p95Ms }) => (p95Ms === undefined ? undefined : p95Ms / 1000),
  ],
  [
    'exhausted',
    '1 while the objective is missed although the budget is at its ceiling.',
    ({ exhausted }) => (exhausted ? 1 : 0),
  ],
];

/** The controller's metrics: gauges that are read when they are scraped, and the changes, which it counts. */
export class ControllerMetrics {
  readonly #changes;

  constructor(registry: Registry, readings: () => readonly ControllerReading[]) {
    const registers = [registry];
    this.#changes = new Counter({
      name: 'heartwood_controller_changes_total',
      help: 'Changes of the budget by the controller, by direction (up or down).',
      labelNames: [...VERSION, 'direction'],
      registers,
    });
    for (const [name, help, read] of gauges) {
      new Gauge({
        name: `heartwood_controller_${name}`,
        help,
        labelNames: [...VERSION],
        registers,
        collect() {
          this.reset();
          for (const reading of readings()) {
            const value = read(reading);
            if (value !== undefined) this.set({ model: reading.model, version: String(reading.version) }, value);
          }
        },
      });
    }
  }

  changed(model: string, version: number, direction: 'up' | 'down'): void {
    this.#changes.inc({ model, version: String(version), direction });
  }
}
