import { type ProviderName, providerNames } from '../../libs/runtime/providers/index.js';
import type { ProviderChoice } from '../../libs/runtime/providers/choose.js';
import { fallbackPhases } from '../../libs/runtime/runtime.js';
import { Counter, Gauge, type Registry } from '../../libs/telemetry/metrics.js';

/** Where a process ended on the CPU in place of its provider: at its start, or at a session. */
type FallbackPhase = 'start' | (typeof fallbackPhases)[number];

/** Which provider runs the models, and how often it could not. */
export class ProviderMetrics {
  readonly #fallbacks;

  constructor(registry: Registry, choice: ProviderChoice) {
    const registers = [registry];
    const info = new Gauge({
      name: 'heartwood_provider_info',
      help: 'Always 1; what became of each execution provider at the start: chosen, passed_over, failed or not_probed.',
      labelNames: ['provider', 'state'],
      registers,
    });
    for (const provider of providerNames) info.set({ provider, state: stateOf(provider, choice) }, 1);
    this.#fallbacks = new Counter({
      name: 'heartwood_provider_fallbacks_total',
      help: 'Times that the CPU took the place of the provider: at the start, for a graph that it is not used for, at a load, at a first run, at its answer.',
      labelNames: ['provider', 'at'],
      registers,
    });
    // From the start, so that the first one is an increase.
    for (const provider of providerNames) {
      if (provider === 'cpu') continue;
      for (const at of ['start', ...fallbackPhases] as const) this.#fallbacks.inc({ provider, at }, 0);
    }
  }

  fellBack(provider: ProviderName, at: FallbackPhase): void {
    this.#fallbacks.inc({ provider, at });
  }
}

function stateOf(provider: ProviderName, { provider: chosen, findings }: ProviderChoice): string {
  if (provider === chosen) return 'chosen';
  const found = findings.find((finding) => finding.provider === provider);
  if (found === undefined) return 'not_probed';
  return found.works ? 'passed_over' : 'failed';
}
