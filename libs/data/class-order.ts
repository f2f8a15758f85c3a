/** Which label a class folder gets: its place among the model's labels where the names agree, else its place in the alphabet. */
import { invalid } from '../errors/error.js';

/** What Hugging Face calls labels that nobody named. */
const unnamed = /^LABEL_\d+$/;

/** Names that differ only in case, spaces, dashes or underscores are the same class. */
function canonical(name: string): string {
  return name
    .toLowerCase()
    .replaceAll(/[\s_-]+/g, ' ')
    .trim();
}

export interface ClassOrder {
  /** Names in the order of the labels. */
  readonly classes: readonly string[];
  /** The label of each folder. */
  readonly labelOf: ReadonlyMap<string, number>;
}

/**
 * Orders the class folders of `where`. With the model's labels `wanted`, every folder must be one of them, or none: then, as for
 * labels without names, the alphabet decides. Throws INVALID_ARGUMENT naming the folders that are no label of the model.
 */
export function orderClasses(
  folders: readonly string[],
  wanted: readonly string[] | undefined,
  where: string,
): ClassOrder {
  const sorted = [...folders].sort();
  const alphabetical = { classes: sorted, labelOf: new Map(sorted.map((folder, label) => [folder, label])) };
  if (wanted === undefined || wanted.length === 0) return alphabetical;
  if (sorted.length > wanted.length) {
    throw invalid(`${where} has ${sorted.length} class folders, the model only ${wanted.length} labels`);
  }
  if (wanted.every((name) => unnamed.test(name))) return alphabetical;
  // ImageNet's labels list synonyms: "tench, Tinca tinca".
  const byName = new Map<string, number>();
  wanted.forEach((names, label) => {
    for (const name of [names, ...names.split(',')]) {
      if (!byName.has(canonical(name))) byName.set(canonical(name), label);
    }
  });
  const strangers = sorted.filter((folder) => !byName.has(canonical(folder)));
  if (strangers.length === sorted.length && sorted.length === wanted.length) return alphabetical;
  if (strangers.length > 0) {
    throw invalid(`${where} has class folders that are no labels of the model: ${strangers.slice(0, 5).join(', ')}`);
  }
  return {
    classes: wanted,
    labelOf: new Map(sorted.map((folder) => [folder, byName.get(canonical(folder)) as number])),
  };
}
