import { join } from 'node:path';
import { createHash } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import type { Checkpoint } from '../models/checkpoint.js';
import { specOf } from '../models/classifier.js';
import { readSafetensors, readTensor, writeSafetensors } from '../models/safetensors.js';
import type { Graph, Tensor } from '../onnx/ir.js';
import { writeModel } from '../onnx/write.js';
import { classifierLayout } from './fixed/layout.js';
import { removeUnits, type RemovedUnits } from './fixed/remove.js';
import { resolveArrays, type Plan, type PredictorArrays, type TokenPlan } from './plan.js';
import { explainedGraph, servedGraph } from './served-graph.js';

/** The file in a version that holds the arrays of its stages. */
export const PREDICTORS_FILE = 'predictors.safetensors';

/** The tensors that the plan makes smaller. */
export async function replacedTensors(
  plan: { readonly removed: RemovedUnits | null },
  checkpoint: Checkpoint,
): Promise<ReadonlyMap<string, Tensor>> {
  return plan.removed
    ? removeUnits(checkpoint, classifierLayout(specOf(checkpoint)), plan.removed)
    : new Map<string, Tensor>();
}

/** The model that a plan makes of a checkpoint (float32). Pure: the same plan gives the same graph. */
export async function applyPlan(
  plan: Pick<Plan, 'removed' | 'tokens'>,
  checkpoint: Checkpoint,
  arrays: PredictorArrays,
): Promise<Graph> {
  const replaced = await replacedTensors(plan, checkpoint);
  if (!plan.tokens) return servedGraph(checkpoint, replaced, [], undefined);
  return servedGraph(checkpoint, replaced, resolveArrays(plan.tokens.stages, arrays), plan.tokens.table);
}

/** As `applyPlan`, with the outputs `groups_k` that say where each token went. */
export async function explainPlan(
  plan: Pick<Plan, 'removed'> & { readonly tokens: TokenPlan },
  checkpoint: Checkpoint,
  arrays: PredictorArrays,
): Promise<Graph> {
  const replaced = await replacedTensors(plan, checkpoint);
  return explainedGraph(checkpoint, replaced, resolveArrays(plan.tokens.stages, arrays), plan.tokens.table);
}

/** Writes model.onnx and the predictors of a plan into a folder. */
export async function writeArtefact(
  directory: string,
  plan: Plan,
  checkpoint: Checkpoint,
  arrays: PredictorArrays,
): Promise<void> {
  await writeModel(await applyPlan(plan, checkpoint, arrays), join(directory, 'model.onnx'));
  if (arrays.size > 0) await writePredictors(directory, arrays);
}

/** Writes the arrays of a plan's stages beside its model. */
export async function writePredictors(directory: string, arrays: PredictorArrays): Promise<void> {
  const tensors = [...arrays].map(([name, values]) => ({
    name,
    type: 'float32' as const,
    shape: [values.length],
    bytes: new Uint8Array(values.buffer, values.byteOffset, values.byteLength),
  }));
  await writeSafetensors(join(directory, PREDICTORS_FILE), tensors);
}

/** SHA-256 over the arrays in order, by name; null for none. */
export function digestArrays(arrays: PredictorArrays): string | null {
  if (arrays.size === 0) return null;
  const hash = createHash('sha256');
  for (const [name, values] of arrays) {
    hash.update(`${name}:${values.length};`);
    hash.update(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  }
  return hash.digest('hex');
}

/** Reads the arrays of a version back. */
export async function readPredictors(directory: string): Promise<PredictorArrays> {
  const file = join(directory, PREDICTORS_FILE);
  if (!(await readdir(directory)).includes(PREDICTORS_FILE)) return new Map();
  const { tensors } = await readSafetensors(file);
  const arrays = new Map<string, Float32Array>();
  for (const [name, location] of tensors) arrays.set(name, await readTensor(location));
  return arrays;
}
