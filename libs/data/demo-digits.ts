/** The bundled dataset `demo:digits`: Cluttered MNIST as a dataset (see digits.ts). */
import { createHash } from 'node:crypto';
import type { ImagePreprocessing } from '../models/preprocessing.js';
import { canvasSide, ClutteredDigits, loadDigits, type Split } from './digits.js';
import { rawDataset, type Dataset } from './dataset.js';

/** The seed that the bundled checkpoint was trained and is tested with. */
export const demoSeed = 0;

export const demoClasses: readonly string[] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9'];

/**
 * One split of the task, each digit on one fixed canvas. Unless a split is asked for it is `validation`: samples that training
 * never saw, while `test` stays for the verdict. The digest covers the digits, the seed and the split.
 */
export async function openDemoDigits(preprocessing: ImagePreprocessing, split: Split = 'validation'): Promise<Dataset> {
  const digits = await loadDigits();
  const task = new ClutteredDigits(digits, split, demoSeed);
  const name = `demo:digits/${split}`;
  return rawDataset(
    {
      name,
      digest: createHash('sha256').update(`${name} ${demoSeed} ${digits.digest}`).digest('hex'),
      size: task.size,
      classes: demoClasses,
      labelled: true,
      raw(index) {
        const image = { data: task.draw(index), height: canvasSide, width: canvasSide, channels: 1 };
        return Promise.resolve({ image, label: task.label(index) });
      },
    },
    preprocessing,
  );
}
