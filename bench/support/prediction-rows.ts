/** The rows of bench:prediction for one model: what removing many units costs, foretold in several ways, and measured. */
import { curvatureFactors, type CurvatureFactors } from '../../libs/curvature/factors.js';
import { fixedOrder, leastOf } from '../../libs/pruning/fixed/order.js';
import type { AnyJob } from '../../libs/pruning/job.js';
import { removals, type RemovalStep } from '../../libs/pruning/selection/fixed-units.js';
import { FIXED_KINDS, removedUnits, type FixedUnit, type GatedNetwork } from '../../libs/pruning/tasks/task.js';
import type { Dataset } from '../../libs/data/dataset.js';
import type { TextDataset } from '../../libs/data/text/dataset.js';
import type { BenchContext } from './pruning-bench.js';

/** Shares of the prunable parts' cost that are removed. */
export const shares = [0.1, 0.2, 0.3, 0.4];
/** How far the gates go; KL at a share of the way, divided by its square, is ½ sᵀHs where there are no higher orders. */
const ways = [0.125, 0.25, 0.5];

export interface PredictionSubject {
  readonly name: string;
  readonly job: AnyJob;
  /** What removing a unit saves. */
  readonly cost: (unit: FixedUnit) => number;
  /** The unpruned network with gates, on samples that nothing was made from. */
  readonly test: GatedNetwork;
}

export interface PredictionRow {
  readonly model: string;
  readonly order: 'second order alone' | 'bearings on the way';
  readonly share: number;
  readonly units: number;
  readonly heads: number;
  /** Nats. By the order's own samples and directions: what it minimised. */
  readonly own: number;
  /** ½ sᵀHs by other directions on the same samples, and by other samples. */
  readonly sameSamples: number;
  readonly otherSamples: number;
  /** By other samples, without interactions, and with those within a block alone. */
  readonly alone: number;
  readonly withinBlocks: number;
  /** KL on the test samples at ⅛, ¼ and ½ of the way, divided by the square of it. */
  readonly partly: readonly number[];
  /** Mean KL on the samples that are searched, and on those of the test. */
  readonly searched: number;
  readonly measured: number;
}

/** Both orders at every share. */
export async function predictionRows(subject: PredictionSubject, context: BenchContext): Promise<PredictionRow[]> {
  const { job, cost, name } = subject;
  const { task, checkpoint, data } = job;
  const { fit, search } = data.parts;
  const units = task.units(FIXED_KINDS);
  const dataset = data.dataset as Dataset | TextDataset;
  const began = Date.now();
  const say = (what: string) => console.error(`${name}: ${what}, ${Math.round((Date.now() - began) / 1000)} s`);
  const own = await task.factors(FIXED_KINDS);
  say('factors');
  const factors = (indices: readonly number[]) =>
    curvatureFactors(checkpoint, { dataset, indices }, { kinds: FIXED_KINDS, seed: job.request.seed + 1000 }, context);
  const [sameSamples, otherSamples] = [await factors(fit), await factors(search)];
  say('factors by other directions and samples');
  const searched = await (await task.prepare('search')).openGated();
  const costs = units.map(cost);
  const total = costs.reduce((a, b) => a + b, 0);
  const family = {
    name: 'units',
    curvature: { kind: 'factors', U: own.U, K: own.K } as const,
    cost: costs,
    group: units.map(({ group }) => group),
    least: leastOf(task.blocks),
  };
  const orders: [PredictionRow['order'], Iterable<RemovalStep> | AsyncIterable<RemovalStep>][] = [
    ['second order alone', removals([family])],
  ];
  // Of images it is the same order.
  if (task.divergence)
    orders.push([
      'bearings on the way',
      fixedOrder(task, { policy: 'curvature', kinds: FIXED_KINDS, seed: job.request.seed, cost }),
    ]);
  const rows: PredictionRow[] = [];
  for (const [order, steps] of orders) {
    const wanted = [...shares];
    const taken: number[] = [];
    for await (const { unit, saved, predicted } of steps) {
      taken.push(unit);
      if (saved < wanted[0]! * total) continue;
      const removed = removedUnits(
        taken.map((at) => units[at]!),
        task.blocks,
      );
      const partly: number[] = [];
      for (const way of ways) partly.push((await subject.test.measure(removed, 1 - way)) / way ** 2);
      rows.push({
        ...{ model: name, order, share: wanted.shift()!, units: taken.length },
        heads: removed.heads.reduce((sum, { length }) => sum + length, 0),
        own: predicted,
        sameSamples: halfQuadratic(sameSamples, taken),
        otherSamples: halfQuadratic(otherSamples, taken),
        alone: taken.reduce((sum, unit) => sum + halfQuadratic(otherSamples, [unit]), 0),
        withinBlocks: blocksOf(taken, units).reduce((sum, part) => sum + halfQuadratic(otherSamples, part), 0),
        partly,
        searched: await searched.measure(removed),
        measured: await subject.test.measure(removed),
      });
      say(`${order}, ${taken.length} units`);
      if (wanted.length === 0) break;
    }
  }
  await searched.dispose();
  return rows;
}

/** ½ sᵀHs = ½ ‖U s‖² / K */
function halfQuadratic({ U, K }: CurvatureFactors, taken: readonly number[]): number {
  const width = U.length / K;
  let sum = 0;
  for (let k = 0; k < K; k++) {
    let product = 0;
    for (const unit of taken) product += U[k * width + unit]!;
    sum += product ** 2;
  }
  return sum / (2 * K);
}

function blocksOf(taken: readonly number[], units: readonly FixedUnit[]): number[][] {
  const found = new Map<number, number[]>();
  for (const unit of taken) {
    const { block } = units[unit]!;
    found.set(block, [...(found.get(block) ?? []), unit]);
  }
  return [...found.values()];
}
