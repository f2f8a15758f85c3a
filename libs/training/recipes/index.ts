/** What `heartwood train` can make: one line a checkpoint. */
import { brownJob } from '../brown-job.js';
import { digitsJob } from '../digits-job.js';
import type { TrainingJob } from '../job.js';

export interface RecipeEntry {
  /** Where the bundled checkpoint lies. */
  readonly out: string;
  open(): Promise<TrainingJob>;
}

export const recipes: Readonly<Record<'demo' | 'brown', RecipeEntry>> = {
  demo: { out: 'models/demo-digits', open: () => digitsJob() },
  brown: { out: 'models/demo-brown', open: () => brownJob() },
};

export type RecipeName = keyof typeof recipes;
export const recipeNames = Object.keys(recipes) as RecipeName[];
