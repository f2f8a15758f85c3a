import { rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { HeartwoodError } from '../../../libs/errors/error.js';
import { makeFolders } from '../../../libs/errors/make-folders.js';
import { connectInference, type InferenceClient } from '../../server/client.js';
import type { Progress } from '../progress.js';
import { startChild, type Child } from './child.js';
import { runJob } from './prune-job.js';
import { waitForVersions } from './version-wait.js';

/** What is pruned, and how far. */
export interface PairRequest {
  /** A checkpoint folder. */
  readonly model: string;
  /** Calibration data for the pruner. */
  readonly data: string;
  readonly lossBudget: number;
  readonly units: readonly string[];
  /** Calibration samples at most; undefined: the pruner's own number. */
  readonly samples?: number;
  readonly seed: number;
  /** The model's name in the repository. */
  readonly name: string;
  /** Gets the repository and the pruner's folder; those of an earlier run are replaced. */
  readonly output: string;
}

/** A pruned version and the unpruned one, served side by side. */
export interface ServedPair {
  readonly client: InferenceClient;
  /** The repository's folder. */
  readonly models: string;
  /** The pruned one; the unpruned one is version 1. */
  readonly version: number;
}

/**
 * Starts a pruner and a server as processes of their own, has the pruner do a job over gRPC, waits until the server has taken up the new version
 * by itself, hands the pair to `work`, and ends the processes whatever happens.
 */
export async function withServedPair<T>(
  request: PairRequest,
  progress: Progress,
  signal: AbortSignal,
  work: (pair: ServedPair) => Promise<T>,
): Promise<T> {
  const output = resolve(request.output);
  const [models, jobs] = [join(output, 'models'), join(output, 'jobs')];
  // An earlier run's, made by this function.
  await Promise.all([rm(models, { recursive: true, force: true }), rm(jobs, { recursive: true, force: true })]);
  await makeFolders(models, `--output ${request.output}`);
  const children: Child[] = [];
  let client: InferenceClient | undefined;
  try {
    const local = ['--repository', models, '--host', '127.0.0.1', '--port', '0', '--metrics-port', '0'];
    const starting = [
      startChild('pruner', [...local, '--data-directory', jobs], signal),
      startChild('serve', [...local, '--poll-ms', '200'], signal),
    ];
    for (const child of await Promise.allSettled(starting))
      if (child.status === 'fulfilled') children.push(child.value);
    const [pruner, server] = (await Promise.all(starting)) as [Child, Child];
    const { model, data, name, lossBudget, units, samples, seed } = request;
    const wish = { modelDirectory: resolve(model), data, name, lossBudget, units: [...units], samples, seed };
    const { job } = await runJob(`127.0.0.1:${pruner.grpcPort}`, wish, progress, signal);
    const version = job?.result?.version;
    if (version === undefined) throw new HeartwoodError('INTERNAL', 'the pruning job succeeded without a version');
    // It has done its work; what follows is measured without it.
    await pruner.stop();
    client = connectInference(`127.0.0.1:${server.grpcPort}`);
    await waitForVersions(client, server, name, [1, version], signal);
    return await work({ client, models, version });
  } finally {
    client?.close();
    await Promise.all(children.map((child) => child.stop()));
  }
}
