import { prune } from '../../libs/pruning/prune.js';
import type { PruneWork } from './prune-work.js';

/** The work of a job: `prune` of libs/pruning. */
export const defaultWork: PruneWork = (request, context) => prune(request, context);
