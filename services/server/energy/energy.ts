import { ledgerOf } from '../../../libs/energy/metered-ledger.js';
import { type EnergyMeter, openEnergyMeter } from '../../../libs/energy/meter.js';
import type { MeterChoice } from '../../../libs/energy/meters/index.js';
import type { Logger } from '../../../libs/telemetry/log.js';
import type { Registry } from '../../../libs/telemetry/metrics.js';
import { boardMetrics } from '../metrics/board-metrics.js';
import { ledgerMetrics, meterMetrics, stepEnergyMetric } from '../metrics/energy-metrics.js';
import type { Scheduler } from '../scheduling/scheduler.js';
import { accounted } from './accounted-scheduler.js';
import { GenerationEnergy } from './generation-energy.js';

export interface EnergySettings {
  readonly energyMeter: MeterChoice;
  readonly energySampleHz: number;
  readonly energyRoot: string;
}

/** The energy of a server: what is metered, and whose it is. */
export interface ServerEnergy {
  /** What counts all that the machine takes; undefined where nothing does. */
  readonly meter: EnergyMeter | undefined;
  /** The version's scheduler, its runs accounted for; as it is where nothing is metered. */
  account(model: string, version: number, scheduler: Scheduler): Scheduler;
  /** Accounts for the steps of a language model; undefined where nothing is metered. */
  accountGeneration(model: string, version: number): GenerationEnergy | undefined;
  /** Does work that is no run (loading a model): what it takes is nobody's, and says nothing of idling. */
  beside<T>(work: () => Promise<T>): Promise<T>;
  close(): Promise<void>;
}

/**
 * Opens the meter and registers its metrics, and those of the board. What is not metered has none.
 * Throws FAILED_PRECONDITION (a meter that was named is not there).
 */
export async function openServerEnergy(
  settings: EnergySettings,
  registry: Registry,
  log: Logger,
): Promise<ServerEnergy> {
  boardMetrics(registry, settings.energyRoot);
  const meter = await openMeter(settings, log);
  if (meter) meterMetrics(registry, meter);
  const close = async () => meter?.close();
  if (!meter?.total) {
    return {
      meter: undefined,
      account: (_model, _version, scheduler) => scheduler,
      accountGeneration: () => undefined,
      beside: (work) => work(),
      close,
    };
  }
  const ledger = ledgerOf(meter);
  const count = ledgerMetrics(registry, ledger);
  const countStep = stepEnergyMetric(registry);
  return {
    meter,
    account: (model, version, scheduler) =>
      accounted(scheduler, ledger, (joules) => count({ model, version: String(version) }, joules)),
    accountGeneration: (model, version) => {
      const labels = { model, version: String(version) };
      return new GenerationEnergy(
        ledger,
        ({ kind }, joules) => countStep(labels, kind, joules),
        (joules) => count(labels, joules),
      );
    },
    beside: async (work) => {
      const end = ledger.occupied();
      try {
        return await work();
      } finally {
        end();
      }
    },
    close,
  };
}

/** The log says which meter it is, and what is wrong with it; that there is none is no fault of anybody's. */
async function openMeter(
  { energyMeter, energySampleHz, energyRoot }: EnergySettings,
  log: Logger,
): Promise<EnergyMeter | undefined> {
  const problems: string[] = [];
  let report = (problem: string): unknown => problems.push(problem);
  const meter = await openEnergyMeter({
    meter: energyMeter,
    sampleHz: energySampleHz,
    root: energyRoot,
    report: (problem) => report(problem),
  });
  report = (problem) => log.warn({ event: 'energy-meter' }, problem);
  if (meter === undefined) {
    log.info({ event: 'energy-meter', meter: null, reasons: problems }, 'no energy meter, so no metrics of energy');
    return undefined;
  }
  const { name, rails, total } = meter;
  log.info({ event: 'energy-meter', meter: name, rails, total }, 'metering energy');
  problems.forEach(report);
  return meter;
}
