/** A run that can be resumed: weights, both moments and the step, in one safetensors file that appears by a rename. */
import { stat } from 'node:fs/promises';
import { readSafetensors, readTensor, writeSafetensors } from '../models/safetensors.js';
import { HeartwoodError, invalid } from '../errors/error.js';
import type { AdamW } from './adamw.js';
import type { Parameters } from './parameters.js';

export interface Progress {
  /** Steps that are done. */
  readonly step: number;
  /** Wall-clock time of training so far, over all the runs. */
  readonly seconds: number;
}

const arrays = ({ values }: Parameters, { first, second }: AdamW) => ({ weights: values, first, second });

export async function saveState(
  path: string,
  digest: string,
  { step, seconds }: Progress,
  parameters: Parameters,
  optimiser: AdamW,
): Promise<void> {
  const tensors = Object.entries(arrays(parameters, optimiser)).map(([name, values]) => ({
    name,
    type: 'float32' as const,
    shape: [values.length],
    bytes: new Uint8Array(values.buffer, values.byteOffset, values.byteLength),
  }));
  await writeSafetensors(path, tensors, { recipe: digest, step: String(step), seconds: String(seconds) });
}

/**
 * Fills parameters and moments from a saved state; undefined where there is none. Throws FAILED_PRECONDITION on the state of
 * another recipe or of other data, INVALID_ARGUMENT on a broken one.
 */
export async function loadState(
  path: string,
  digest: string,
  parameters: Parameters,
  optimiser: AdamW,
): Promise<Progress | undefined> {
  if (!(await stat(path).catch(() => undefined))) return undefined;
  const { tensors, metadata } = await readSafetensors(path);
  if (metadata['recipe'] !== digest) {
    throw new HeartwoodError(
      'FAILED_PRECONDITION',
      `${path} is the state of another recipe or of other data: remove it to start anew`,
    );
  }
  for (const [name, values] of Object.entries(arrays(parameters, optimiser))) {
    const location = tensors.get(name);
    if (location?.shape.join() !== String(values.length))
      throw invalid(`${path}: ${name} is not of ${values.length} values`);
    values.set(await readTensor(location));
  }
  const [step, seconds] = [Number(metadata['step']), Number(metadata['seconds'])];
  if (!Number.isInteger(step) || step < 0 || !Number.isFinite(seconds))
    throw invalid(`${path}: step is ${metadata['step']}`);
  return { step, seconds };
}
