import { curvature } from './curvature.js';
import { plainPolicy, type Policy } from './policy.js';
import { publishedScore } from './published.js';

/** Every policy by its name on the command line; a new one is a file and a line here. */
export const policies = {
  /** Merging by curvature, adaptive: the default. */
  curvature,
  heart: publishedScore('heart'),
  taylor: publishedScore('taylor'),
  /** The class token's attention: the least attended are fused into one token (EViT, arXiv 2202.07800). */
  attention: plainPolicy({ rule: 'fuse', selection: 'rank', matchings: 1 }, () => ({ policy: 'attention' })),
  /** The most similar keys are merged (ToMe, arXiv 2210.09461), the same count of every image. */
  tome: plainPolicy({ rule: 'merge', selection: 'rank', matchings: 2 }, () => ({ policy: 'tome' })),
  magnitude: plainPolicy({ rule: 'drop', selection: 'rank', matchings: 1 }, () => ({ policy: 'magnitude' })),
  random: plainPolicy({ rule: 'drop', selection: 'rank', matchings: 1 }, (_, seed) => ({ policy: 'random', seed })),
} as const satisfies Record<string, Policy>;

export type PolicyName = keyof typeof policies;
export const POLICY_NAMES = Object.keys(policies) as PolicyName[];
