/** `heartwood train --recipe NAME`: makes a bundled checkpoint from nothing. */
import { rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createRuntime } from '../runtime/runtime.js';
import type { TrainingJob, TrainReport } from './job.js';
import { trainModel } from './train.js';

export interface TrainOptions {
  readonly job: TrainingJob;
  /** Where the checkpoint goes; the state of an unfinished run lies in it as `training-state.safetensors`. */
  readonly out: string;
  /** Steps between two saves of the state. Default 250. */
  readonly saveEvery?: number;
  /** Steps between two looks at the validation split. Default 1000; 0 for none. */
  readonly assessEvery?: number;
}

export interface TrainContext {
  readonly signal: AbortSignal;
  /** How far it is. */
  progress(event: { stage: string; done: number; total: number; unit: string }): void;
  /** A line about how it goes: loss and accuracy. */
  note(line: string): void;
}

/** Steps over which the loss that is shown is averaged. */
const lossWindow = 50;

/**
 * Trains what the job says, resuming where a run was stopped, measures it on the validation and test splits and writes the
 * checkpoint with a README.md that says what came out. Throws CANCELLED when the signal is raised.
 */
export async function train(options: TrainOptions, context: TrainContext): Promise<TrainReport> {
  const { job, out, saveEvery = 250, assessEvery = 1000 } = options;
  const { recipe, task } = job;
  const statePath = join(out, 'training-state.safetensors');
  const runtime = createRuntime({ workers: recipe.shards, threads: 1 });
  try {
    let shown: number | undefined;
    const result = await trainModel(
      recipe,
      task,
      { path: statePath, every: saveEvery },
      {
        runtime,
        signal: context.signal,
        async step({ done, total, loss, rate, phase, parameters }) {
          shown = shown === undefined ? loss : shown + (loss - shown) / lossWindow;
          context.progress({ stage: 'train', done, total, unit: 'steps' });
          if (assessEvery > 0 && done % assessEvery === 0 && done < total) {
            const looked = job.describe(await job.assess(runtime, parameters, 'glance'));
            context.note(
              `step ${done}/${total}, ${job.phaseName(phase)}: loss ${shown.toFixed(3)}, ` +
                `learning rate ${rate.toExponential(2)}, validation ${looked}`,
            );
          }
        },
      },
    );
    const { parameters, steps, seconds } = result;
    job.round?.(parameters);
    const validation = await job.assess(runtime, parameters, 'validation');
    const test = await job.assess(runtime, parameters, 'test');
    await job.write(out, parameters);
    const report: TrainReport = {
      directory: out,
      parameters: parameters.values.length,
      megabytes: (await stat(join(out, 'model.safetensors'))).size / 1e6,
      steps,
      minutes: seconds / 60,
      validation,
      test,
    };
    await writeFile(join(out, 'README.md'), await job.card(report));
    await rm(statePath, { force: true });
    return report;
  } finally {
    await runtime.close();
  }
}
