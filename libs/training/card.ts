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
  return (
    `AdamW, β₂ ${optimiser.beta2}, weight decay ${optimiser.weightDecay}, learning rate ${schedule.peak} with ` +
    `${schedule.warmupSteps} steps of warm-up and a cosine to ${schedule.floor} of it`
  );
}
