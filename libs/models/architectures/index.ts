import { invalid } from '../../errors/error.js';
import type { Checkpoint } from '../checkpoint.js';
import { deit, deitWithTeacher } from './deit.js';
import { readGptNeox, type CausalSpec } from './gpt-neox.js';
import type { VisionFamily } from './transformer.js';
import type { Weights } from '../weights.js';
import { vit } from './vit.js';

/** The registry: classes of Hugging Face that there is a network for. A new one is a file and a line. */
export const architectures: Readonly<Record<string, VisionFamily>> = {
  ViTForImageClassification: vit,
  DeiTForImageClassification: deit,
  DeiTForImageClassificationWithTeacher: deitWithTeacher,
};

/** Language models: how each reads its spec. */
export const causalArchitectures: Readonly<
  Record<string, (checkpoint: Checkpoint, weights: Weights) => CausalSpec>
> = {
  GPTNeoXForCausalLM: readGptNeox,
};

/** What a model does, by the name that manifests give it. */
export const TASKS = ['image-classification', 'text-generation'] as const;
export type Task = (typeof TASKS)[number];

/** A checkpoint's task; throws INVALID_ARGUMENT naming the architectures that are known. */
export function taskOf(checkpoint: Checkpoint): Task {
  if (Object.hasOwn(causalArchitectures, checkpoint.architecture)) return 'text-generation';
  if (Object.hasOwn(architectures, checkpoint.architecture)) return 'image-classification';
  throw unknown(checkpoint, [...Object.keys(architectures), ...Object.keys(causalArchitectures)]);
}

/** Finds a classifier's family; throws INVALID_ARGUMENT naming those that are known. */
export function familyOf(checkpoint: Checkpoint): VisionFamily {
  if (Object.hasOwn(architectures, checkpoint.architecture)) return architectures[checkpoint.architecture]!;
  throw unknown(checkpoint, Object.keys(architectures));
}

/** The spec of a language model; throws INVALID_ARGUMENT naming the architectures that are known, or what does not fit. */
export function readCausalSpec(checkpoint: Checkpoint, weights: Weights): CausalSpec {
  if (Object.hasOwn(causalArchitectures, checkpoint.architecture)) {
    return causalArchitectures[checkpoint.architecture]!(checkpoint, weights);
  }
  throw unknown(checkpoint, Object.keys(causalArchitectures));
}

function unknown({ architecture, directory }: Checkpoint, known: readonly string[]) {
  const expected = `expected one of ${known.join(', ')}`;
  return invalid(`${directory}/config.json: architectures: ${JSON.stringify(architecture)} is not supported, ${expected}`);
}
