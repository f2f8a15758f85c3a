import { HeartwoodError } from '../../libs/errors/error.js';
import type { PruneWork } from './prune-work.js';

/** The work of a job: `prune` of libs/pruning. */
export const defaultWork: PruneWork = async () => {
  throw new HeartwoodError('UNIMPLEMENTED', 'pruning: not built into this pruner');
};
