import { invalid } from '../../errors/error.js';
import type { Checkpoint } from '../checkpoint.js';
import { deit, deitWithTeacher } from './deit.js';
import type { VisionFamily } from './transformer.js';
import { vit } from './vit.js';

/** The registry: classes of Hugging Face that there is a network for. A new one is a file and a line. */
export const architectures: Readonly<Record<string, VisionFamily>> = {
  ViTForImageClassification: vit,
  DeiTForImageClassification: deit,
  DeiTForImageClassificationWithTeacher: deitWithTeacher,
};

/** Finds a checkpoint's family; throws INVALID_ARGUMENT naming those that are known. */
export function familyOf(checkpoint: Checkpoint): VisionFamily {
  const { architecture, directory } = checkpoint;
  if (Object.hasOwn(architectures, architecture)) return architectures[architecture]!;
  const known = Object.keys(architectures).join(', ');
  throw invalid(`${directory}/config.json: architectures: ${JSON.stringify(architecture)} is not supported, expected one of ${known}`);
}
