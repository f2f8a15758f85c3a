import { createHash } from 'node:crypto';
import { mkdir, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { internal } from '../errors/error.js';
import type { Checkpoint } from '../models/checkpoint.js';
import type { Bits } from '../models/quantisation/blocks.js';
import type { NetworkMatrix } from '../models/quantisation/network.js';
import { dequantise, quantise } from '../models/quantisation/quantise.js';
import { readSafetensors, writeSafetensors, type TensorToWrite } from '../models/safetensors.js';
import { weightValues } from '../models/tensor-values.js';
import type { GraphBuilder } from '../onnx/builder.js';
import type { Node, Tensor, Value } from '../onnx/ir.js';
import { add, concat, gather, gemm, mul, reduceSum, reshape } from '../onnx/ops/index.js';
import { elementCount } from '../onnx/shapes.js';

/**
 * A matrix that may get fewer bits, as a unit: its gate m moves it from W at 0 to its quantised form W + Δ at 1. At 0 the KL's gradient
 * by m is zero and its Hessian JᵀFJ, as it is for the gates that multiply, so the same currency buys both.
 */
export interface MatrixMove {
  /** Name of the matrix's tensor. */
  readonly matrix: string;
  readonly bits: Bits;
  /** Δ [rows, columns]. */
  readonly by: Tensor;
}

/**
 * Quantises matrices of a checkpoint (of any float type) with each of the widths and writes what that moves them by, W_b − W, into a file in
 * `workDirectory`; one matrix at a time is in memory, and the same are written once. Matrix by matrix, in the order of the widths.
 */
export async function quantisationMoves(
  checkpoint: Checkpoint,
  matrices: readonly NetworkMatrix[],
  widths: readonly Bits[],
  workDirectory: string,
): Promise<MatrixMove[]> {
  const moves = matrices.flatMap((matrix) =>
    widths.map((bits) => ({ ...matrix, bits, key: `${matrix.name}.${bits}` })),
  );
  const content = createHash('sha256')
    .update(`${checkpoint.digest} ${moves.map(({ key }) => key).join()}`)
    .digest('hex');
  const file = resolve(join(workDirectory, `${content.slice(0, 16)}-moves.safetensors`));
  await mkdir(workDirectory, { recursive: true });
  if (!(await stat(file).catch(() => undefined))?.isFile()) {
    const tensors = moves.map(({ key, name, rows, columns, bits }): TensorToWrite => {
      const bytes = async () => {
        const values = await weightValues(checkpoint, new Map(), name);
        const moved = dequantise(quantise(values, rows, columns, bits));
        for (let i = 0; i < moved.length; i++) moved[i]! -= values[i]!;
        return new Uint8Array(moved.buffer);
      };
      return { name: key, type: 'float32', shape: [rows, columns], bytes };
    });
    await writeSafetensors(file, tensors);
  }
  const { tensors } = await readSafetensors(file);
  return moves.map(({ key, name, rows, columns, bits }) => {
    const { offset, length } = tensors.get(key)!;
    return {
      matrix: name,
      bits,
      by: { type: 'float32', dims: [rows, columns], data: { kind: 'external', file, offset, length } },
    };
  });
}

/** Moves as parts of a graph whose network is there already. */
export interface MovedUnits {
  /** What the matrices' layers give: their cotangents are asked for. */
  readonly outputs: readonly Value[];
  /** ∂/∂m of every move for every sample [batch, moves], from the cotangents of `outputs`. */
  derivatives(cotangents: readonly Value[]): Value;
}

/**
 * ∂/∂m = ⟨ȳ, x Δᵀ⟩ for a layer y = x Wᵀ: W is no input, and no cotangent of it is made. x Δᵀ is one product a move, which all directions
 * share; of a direction only the inner product is left. A matrix that is used twice (tied embeddings) adds both up.
 */
export function movedUnits(g: GraphBuilder, moves: readonly MatrixMove[], batch: number): MovedUnits {
  const outputs: Value[] = [];
  const placeOf = (output: Value) => {
    if (!outputs.includes(output)) outputs.push(output);
    return outputs.indexOf(output);
  };
  const nodes = [...g.allNodes];
  const uses = moves.map(({ matrix, bits, by }) => {
    const delta = g.initializer(`${matrix}.${bits}`, by);
    const users = nodes.filter(({ inputs }) => inputs.some((value) => value?.name === matrix));
    if (users.length === 0) throw internal(`no layer has the matrix ${matrix}`);
    return users.map((node) => ({ place: placeOf(node.outputs[0]!), moved: movedBy(g, node, matrix, delta) }));
  });
  const bySample = (value: Value) => reshape(g, value, [batch, elementCount(value.shape) / batch]);
  return {
    outputs,
    derivatives: (cotangents) =>
      concat(
        g,
        uses.map((parts) =>
          parts
            .map(({ place, moved }) => reduceSum(g, bySample(mul(g, cotangents[place]!, moved)), [-1]))
            .reduce((a, b) => add(g, a, b)),
        ),
        1,
      ),
  };
}

/** How a node's output moves with its matrix: a linear layer's x Δᵀ, or the rows of Δ that are looked up. */
function movedBy(g: GraphBuilder, node: Node, matrix: string, delta: Value): Value {
  const [first, second] = node.inputs;
  const transB = node.attributes['transB'];
  if (node.op === 'Gather' && first?.name === matrix) return gather(g, delta, second!);
  if (node.op === 'Gemm' && second?.name === matrix && transB?.kind === 'int' && transB.value === 1) {
    return gemm(g, first!, delta, undefined, { transB: true });
  }
  throw internal(`${node.name}: ${node.op} of ${matrix} is no linear layer`);
}

/** What the moved outputs of a run may take: a layer's for each width stays until the last direction. */
const movedBytes = 512 * 2 ** 20;

/** Moves in groups, in order, so that a run holds so many of them at once. `rows`: of the network's layers, over the batch. */
export function moveGroups(moves: readonly MatrixMove[], rows: number): MatrixMove[][] {
  const groups: MatrixMove[][] = [];
  let held = Infinity;
  for (const move of moves) {
    const bytes = 4 * rows * move.by.dims[0]!;
    if (held + bytes > movedBytes) {
      groups.push([]);
      held = 0;
    }
    groups.at(-1)!.push(move);
    held += bytes;
  }
  return groups;
}
