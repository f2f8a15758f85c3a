import { Counter, type Registry } from '../../../libs/telemetry/metrics.js';
import { VERSION } from './version-labels.js';

/** What versions executed, of every task: told of a classifier's samples when they are answered, of a language model's runs as they are made. */
export function executedFlops(registry: Registry): Counter<'model' | 'version'> {
  return new Counter({
    name: 'heartwood_inference_flops_total',
    help: 'Floating-point operations executed, counted from the tokens that each stage kept; of texts by the cost of a token that the manifest says.',
    labelNames: [...VERSION],
    registers: [registry],
  });
}
