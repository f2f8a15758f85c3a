import type { EnergyLedger } from '../../../libs/energy/ledger.js';
import type { EnergyMeter } from '../../../libs/energy/meter.js';
import { TOTAL } from '../../../libs/energy/sample.js';
import { Counter, Gauge, Histogram, type Registry } from '../../../libs/telemetry/metrics.js';
import type { VersionLabels } from './version-labels.js';

/** A meter that has been silent for longer has no values: a power of then would pass for one of now. */
const freshMs = 5000;

const buckets: readonly number[] = [
  0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100,
];

/** Registers what a meter reads: power and energy by rail. */
export function meterMetrics(registry: Registry, meter: EnergyMeter): void {
  const fresh = () => {
    const { latest } = meter;
    return latest !== undefined && performance.now() - latest.time <= freshMs ? latest : undefined;
  };
  new Gauge({
    name: 'heartwood_power_watts',
    help: 'Power by rail of the energy meter. The rail "total" is what the machine takes; the others are parts of it, or of each other.',
    labelNames: ['rail'],
    registers: [registry],
    collect() {
      this.reset();
      for (const [rail, watts] of Object.entries(fresh()?.watts ?? {})) this.set({ rail }, watts);
    },
  });
  new Counter({
    name: 'heartwood_energy_joules_total',
    help: 'Energy since the server started, by rail of the energy meter; "total" as for the power.',
    labelNames: ['rail'],
    registers: [registry],
    collect() {
      this.reset();
      // A rail that cannot be read has no power, and no count that would pass for a standstill.
      const { watts, joules } = fresh() ?? { watts: {}, joules: {} };
      for (const [rail, energy] of Object.entries(joules)) if (rail in watts) this.inc({ rail }, energy);
    },
  });
  new Gauge({
    name: 'heartwood_energy_rail_up',
    help: '1 for a rail that could be read when the meter was opened and still can, 0 for one that fails.',
    labelNames: ['rail'],
    registers: [registry],
    collect() {
      this.reset();
      const { watts } = fresh() ?? { watts: {} };
      const rails = meter.total ? [...meter.rails, TOTAL] : meter.rails;
      for (const rail of rails) this.set({ rail }, rail in watts ? 1 : 0);
    },
  });
}

/**
 * Registers what a ledger makes of it. The sum of heartwood_inference_energy_joules over all versions and
 * heartwood_energy_unattributed_joules_total is heartwood_energy_joules_total{rail="total"}, but for runs under way.
 * @returns counts a request's joules
 */
export function ledgerMetrics(
  registry: Registry,
  ledger: EnergyLedger,
): (labels: VersionLabels, joules: number) => void {
  const energy = new Histogram({
    name: 'heartwood_inference_energy_joules',
    help: 'Energy of a request: its share of what the machine took above idling while its run was computed.',
    labelNames: ['model', 'version'],
    buckets: [...buckets],
    registers: [registry],
  });
  new Counter({
    name: 'heartwood_energy_unattributed_joules_total',
    help: 'Energy of no request: idling, and work beside the runs.',
    registers: [registry],
    collect() {
      this.reset();
      this.inc(ledger.unattributed);
    },
  });
  new Gauge({
    name: 'heartwood_idle_power_watts',
    help: 'What the machine takes while nothing is computed, as learnt from such times; absent until it is.',
    labelNames: ['rail'],
    registers: [registry],
    collect() {
      this.reset();
      if (ledger.idleWatts !== undefined) this.set({ rail: TOTAL }, ledger.idleWatts);
    },
  });
  return ({ model, version }, joules) => energy.observe({ model, version }, joules);
}

/** Registers what the steps of language models take. @returns counts a step's joules */
export function stepEnergyMetric(
  registry: Registry,
): (labels: VersionLabels, phase: 'prefill' | 'decode', joules: number) => void {
  const energy = new Counter({
    name: 'heartwood_generation_energy_joules_total',
    help: 'Energy above idling of the runs that read prompts (prefill) and draw tokens (decode); over the tokens it is joules a token.',
    labelNames: ['model', 'version', 'phase'],
    registers: [registry],
  });
  return (labels, phase, joules) => energy.inc({ ...labels, phase }, joules);
}
