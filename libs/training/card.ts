/** Parts that the model cards have in common. */
import { cpus } from 'node:os';
import type { TrainReport } from './job.js';
import { totalSteps, type Recipe } from './recipe.js';

export function percent(share: number): string {
  return `${(share * 100).toFixed(1)} %`;
}

/** The line about where and how long. */
export function trainedLine({ minutes }: TrainReport, recipe: Recipe, phases: string): string {
  const machine = `${cpus().length} cores (${cpus()[0]?.model.trim() ?? 'unknown'})`;
  return `Trained in ${minutes.toFixed(1)} minutes on ${machine}, the machine shared with other work: ${totalSteps(recipe)} steps\n  (${phases}).`;
}

/** What the optimiser was told. */
export function optimiserLine({ optimiser, schedule }: Recipe): string {
  const { peak, warmupSteps, floor, span = 1, cooldown = 0 } = schedule;
  const cosine = span === 1 ? 'a cosine' : `a cosine of ${span} times the run`;
  const descent = cooldown === 0 ? `${cosine} to` : `${cosine}, in the last ${percent(cooldown)} of the run a line, to`;
  return (
    `AdamW, β₂ ${optimiser.beta2}, weight decay ${optimiser.weightDecay}, learning rate ${peak} with ` +
    `${warmupSteps} steps of warm-up and ${descent} ${floor} of it`
  );
}
