/**
 * npm run bench:fuzz [-- --json FILE] [--seed N] [--requests N] [--models N]
 *
 * Malformed and hostile requests to a server in a process of its own, and model files that were tampered with in its repository: none
 * may end it or hang, every answer has a proper code, and a healthy model beside them goes on answering rightly.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { makeSubjects } from './support/fuzz/subjects.js';
import { fuzzModels } from './support/fuzz/model-run.js';
import { fuzzRequests } from './support/fuzz/request-run.js';
import { barOf, printBars, writeOutcome, type Bar } from './support/outcome.js';

const { values: options } = parseArgs({
  options: {
    json: { type: 'string' },
    seed: { type: 'string', default: '1' },
    requests: { type: 'string', default: '10000' },
    models: { type: 'string', default: '2000' },
  },
});
const seed = Number(options.seed);
const folder = await mkdtemp(join(tmpdir(), 'heartwood-fuzz-'));
const rows: unknown[] = [];
const bars: Bar[] = [];
try {
  const repository = await makeSubjects(folder);
  const requests = await fuzzRequests(repository, { seed, count: Number(options.requests), log: console.log });
  rows.push(...requests.rows);
  bars.push(
    barOf('requests sent', requests.sent, '>=', Number(options.requests)),
    barOf('requests without a proper answer', requests.faults.length, '<=', 0),
    barOf('requests that hung', requests.hangs, '<=', 0),
    barOf('crashes of the server under requests', requests.crashes, '<=', 0),
    barOf('errors in its log that are defects', requests.complaints.length, '<=', 0),
    barOf('largest resident memory, MiB', requests.largestMiB, '<=', 1536),
    barOf('resident memory: median of the last fifth over that of the second', requests.growth, '<=', 1.5),
    barOf('exit code after the requests', requests.exitCode ?? -1, '<=', 0),
  );
  const models = Number(options.models);
  for (const [isolation, count] of [
    ['process', Math.ceil(0.8 * models)],
    ['thread', models - Math.ceil(0.8 * models)],
  ] as const) {
    const run = await fuzzModels(repository, { seed, count, isolation, log: console.log });
    rows.push(...run.rows, { isolation, workersLost: run.workersLost });
    bars.push(
      barOf(`mutated models (${isolation})`, run.mutants, '>=', count),
      barOf(`mutated models without a proper outcome (${isolation})`, run.faults.length, '<=', 0),
      barOf(`mutated models that hung (${isolation})`, run.hangs, '<=', 0),
      barOf(`crashes of the server under them (${isolation})`, run.crashes, '<=', 0),
      barOf(`errors in its log that are defects (${isolation})`, run.complaints.length, '<=', 0),
      barOf(`exit code after them (${isolation})`, run.exitCode ?? -1, '<=', 0),
    );
    console.log(`workers lost to mutants (${isolation}): ${run.workersLost}`);
    for (const fault of [...run.faults, ...run.complaints].slice(0, 400)) console.log(fault.slice(0, 1500));
  }
  for (const fault of [...requests.faults, ...requests.complaints].slice(0, 400)) console.log(fault.slice(0, 1500));
} finally {
  await rm(folder, { recursive: true, force: true });
}
printBars(bars);
await writeOutcome(options.json, { bench: 'fuzz', rows, bars });
