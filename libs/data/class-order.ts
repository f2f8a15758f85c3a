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
  const byName = labelsByName(wanted);
  const strangers = sorted.filter((folder) => !byName.has(canonical(folder)));
  if (strangers.length === sorted.length && sorted.length === wanted.length) return alphabetical;
  if (strangers.length > 0) {
    throw invalid(`${where} has class folders that are no labels of the model: ${strangers.slice(0, 5).join(', ')}`);
  }
  const labelOf = new Map<string, number>();
  for (const folder of sorted) {
    const [label = 0, ...others] = byName.get(canonical(folder)) ?? [];
    if (others.length > 0) {
      const labels = [label, ...others].join(' and ');
      throw invalid(
        `${where}: class folder ${folder} may be any of the labels ${labels} of the model, expected a name of one`,
      );
    }
    labelOf.set(folder, label);
  }
  return { classes: wanted, labelOf };
}

/**
 * The labels that go by each name. ImageNet's list synonyms ("tench, Tinca tinca"), and two of its classes are called "crane": a
 * whole label goes before a synonym in another, and what then still has two labels belongs to neither.
 */
function labelsByName(wanted: readonly string[]): Map<string, number[]> {
  const collect = (namesOf: (label: string) => readonly string[]) => {
    const found = new Map<string, number[]>();
    wanted.forEach((names, label) => {
      for (const name of new Set(namesOf(names).map(canonical))) found.set(name, [...(found.get(name) ?? []), label]);
    });
    return found;
  };
  return new Map([...collect((label) => label.split(',')), ...collect((label) => [label])]);
}
