/** Data that come with the project: their names, and the splits of each. */
import { HeartwoodError } from '../errors/error.js';
import { splits, type Split } from './digits.js';

/** Name → what its samples are. */
const kinds = { 'demo:digits': 'images', 'demo:brown': 'text' } as const;

export type BundledName = keyof typeof kinds;

export const bundledNames = Object.keys(kinds) as BundledName[];

export interface Bundled {
  readonly name: BundledName;
  readonly kind: (typeof kinds)[BundledName];
  /** The split that the spec names, as in `demo:brown/test`. */
  readonly split: Split | undefined;
}

/** What a spec such as `demo:brown/test` names; undefined for one that does not start with `demo:`. Throws NOT_FOUND on others. */
export function parseBundled(spec: string): Bundled | undefined {
  if (!spec.startsWith('demo:')) return undefined;
  const split = splits.find((name) => spec.endsWith(`/${name}`));
  const name = split ? spec.slice(0, -split.length - 1) : spec;
  const found = bundledNames.find((candidate) => candidate === name);
  if (found) return { name: found, kind: kinds[found], split };
  throw new HeartwoodError('NOT_FOUND', `${spec} is no bundled dataset: expected ${bundledNames.join(' or ')}`);
}

/** Whether a spec names bundled data, or a split of it, that is there. */
export function isBundled(spec: string): boolean {
  return bundledNames.some((name) => spec === name || splits.some((split) => spec === `${name}/${split}`));
}
