// A pruner with work for tests, as a process of its own: `node pruner-process.js OPTIONS-AS-JSON [STEP]`. Prints `ready` and then a line for
// every step of the work, so that a test can kill it at any; it never gets beyond STEP, so that a kill that comes late comes in time.
import { startPruner, runUntilSignal } from '../pruner.js';
import type { PrunerOptions } from '../options.js';
import { matrixPruning } from './matrix-pruning.js';

const options = JSON.parse(process.argv[2] ?? '') as PrunerOptions;
const last = process.argv[3];
await runUntilSignal(async () => {
  const pruner = await startPruner(options, {
    work: matrixPruning((stage, step) => {
      process.stdout.write(`${stage} ${step}\n`);
      return `${stage} ${step}` === last ? new Promise(() => undefined) : undefined;
    }),
  });
  process.stdout.write('ready\n');
  return pruner;
});
