// A pruner with work for tests, as a process of its own: `node pruner-process.js OPTIONS-AS-JSON`. Prints `ready` and then a line for
// every step of the work, so that a test can kill it at any.
import { startPruner, runUntilSignal } from '../pruner.js';
import type { PrunerOptions } from '../options.js';
import { matrixPruning } from './matrix-pruning.js';

const options = JSON.parse(process.argv[2] ?? '') as PrunerOptions;
await runUntilSignal(async () => {
  const pruner = await startPruner(options, {
    work: matrixPruning((stage, step) => void process.stdout.write(`${stage} ${step}\n`)),
  });
  process.stdout.write('ready\n');
  return pruner;
});
