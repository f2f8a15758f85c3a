import { join } from 'node:path';
import type { Checkpoint } from '../../models/checkpoint.js';
import { specOf } from '../../models/classifier.js';
import { readSafetensors, writeSafetensors } from '../../models/safetensors.js';
import { countFlops } from '../../onnx/flops.js';
import type { Graph, Tensor } from '../../onnx/ir.js';
import { writeModel } from '../../onnx/write.js';
import type { LadderPart } from '../../store/ladder-part.js';
import { replacedTensors } from '../artefact.js';
import { resolveArrays, type PredictorArrays, type TokenPlan } from '../plan.js';
import type { FixedPlan } from '../plan.js';
import { ladderCounts, type LadderWish } from './counts.js';
import { checkMerging, mergeGraph, prefixGraph, trunkGraph, type LadderModel } from './ladder-graph.js';

/** Holds the tensors that pruning made smaller, once for all pieces. */
const WEIGHTS_FILE = 'ladder.safetensors';

/**
 * Writes the ladder of a plan into the folder of its version, and gives what the manifest says of it. The weights are the version's own, by hard link.
 * Throws INVALID_ARGUMENT for a plan without stages that merge, or counts that they cannot leave.
 */
export async function writeLadder(
  directory: string,
  plan: { readonly removed: FixedPlan | null; readonly tokens: TokenPlan | null },
  checkpoint: Checkpoint,
  arrays: PredictorArrays,
  wish: LadderWish,
): Promise<LadderPart> {
  const stages = plan.tokens ? resolveArrays(plan.tokens.stages, arrays) : [];
  checkMerging(stages);
  const counts = ladderCounts(wish, specOf(checkpoint).tokens);
  const replaced = await shared(await replacedTensors(plan, checkpoint), join(directory, WEIGHTS_FILE));
  const model: LadderModel = { checkpoint, replaced, stages, table: plan.tokens!.table };
  const write = async (graph: Graph, file: string) => {
    await writeModel(graph, join(directory, file));
    return file;
  };
  const piece = async (graph: Graph, file: string) => ({
    file: await write(graph, file),
    flops: countFlops(graph, {}).total,
  });
  const prefix = await piece(prefixGraph(model), 'ladder-prefix.onnx');
  const written: LadderPart['stages'] = [];
  for (const [stage, { block }] of stages.entries()) {
    const merge = mergeGraph(model, stage);
    const flops = counts.map((from) =>
      counts.map((to) => (to < from ? countFlops(merge, mergeSymbols(block, from, to)).total : 0)),
    );
    const trunks: LadderPart['stages'][number]['trunks'] = [];
    for (const count of counts)
      trunks.push(await piece(trunkGraph(model, stage, count), `ladder-${stage}-${count}.onnx`));
    written.push({ merge: { file: await write(merge, `ladder-${stage}-merge.onnx`), flops }, trunks });
  }
  return { counts, prefix, stages: written };
}

function mergeSymbols(block: number, from: number, to: number): Record<string, number> {
  return { n: from, half: 0.5, [`rows_${block}`]: to, [`longest_${block}`]: to };
}

/** Tensors in memory as those of a file, so that not every piece has its own copy. */
async function shared(tensors: ReadonlyMap<string, Tensor>, file: string): Promise<ReadonlyMap<string, Tensor>> {
  const inMemory = [...tensors].flatMap(([name, { type, dims, data }]) =>
    data.kind === 'inline' && type === 'float32' ? [{ name, type, shape: dims, bytes: data.bytes } as const] : [],
  );
  if (inMemory.length === 0) return tensors;
  await writeSafetensors(file, inMemory);
  const moved = new Map(tensors);
  for (const { name, type, shape, offset, length } of (await readSafetensors(file)).tensors.values())
    moved.set(name, { type, dims: shape, data: { kind: 'external', file, offset, length } });
  return moved;
}
