import { setImmediate } from 'node:timers/promises';
import { HeartwoodError, invalid } from '../../errors/error.js';
import type { Bits } from '../../models/quantisation/blocks.js';
import type { AnyJob } from '../job.js';
import { meanOf } from '../measure/measure.js';
import type { BitsChoice, FixedChoice, FixedPlan } from '../plan.js';
import { removals, type RemovalStep, type UnitFamily } from '../selection/fixed-units.js';
import { halve, toCertify } from './halving.js';
import { leastOf } from './order.js';
import { FIXED_KINDS, removedUnits, type ByteUnits, type PreparedPart } from '../tasks/task.js';

/** Savings, as shares of the bytes that a token reads, at which the order is measured. 8 bits of every weight save 71 %, 4 bits 84 %. */
const levels = [0.15, 0.3, 0.45, 0.6, 0.68, 0.72, 0.75, 0.78, 0.8, 0.82, 0.84, 0.86, 0.88, 0.9, 0.92, 0.94];
const stepsAtOnce = 16;

/**
 * Chooses bits of the matrices together with heads and neurons: one order by bytes saved per predicted nat under one Hessian, interactions
 * included, and how far along it by what the searched text measures of the network as it would be served. Only a loss budget can be
 * asked for: bits save bytes, and no FLOPs.
 *
 * @returns prefixes within the budget, the safest first
 */
export async function chooseBits(job: AnyJob): Promise<readonly FixedPlan[]> {
  const { request, task } = job;
  const { lossBudget, policy } = request;
  if (lossBudget === undefined) throw invalid('units: bits save bytes, and no FLOPs: expected them with a loss budget');
  if (policy !== 'curvature') throw invalid(`policy: ${policy}, expected curvature for bits`);
  const kinds = FIXED_KINDS.filter((kind) => request.units.includes(kind));
  const all = await task.byteUnits(kinds);
  const prefixes = await measureOrder(job, await task.prepare('search'), all, lossBudget);
  const within = toCertify(prefixes, lossBudget);
  if (within.length > 0) return within;
  const [least] = prefixes.sort((a, b) => a.measured - b.measured);
  if (!least) throw new HeartwoodError('FAILED_PRECONDITION', `a loss budget of ${lossBudget} nats saves nothing`);
  // It is refused with what it costs.
  return [least];
}

async function measureOrder(
  { context, task }: AnyJob,
  part: PreparedPart,
  all: ByteUnits,
  lossBudget: number,
): Promise<FixedPlan[]> {
  const found: FixedPlan[] = [];
  const steps: RemovalStep[] = [];
  const measure = async (count: number) => {
    const choice = choiceOf(steps.slice(0, count), all, task.blocks);
    const { losses } = await part.measure(choice);
    const measured = meanOf(losses.kl, losses.weights);
    found.push({ ...choice, predicted: steps[count - 1]!.predicted, measured });
    context.progress({ stage: 'plan', done: found.length, total: levels.length, unit: 'plans' });
    return measured;
  };
  let [within, next] = [0, 0];
  for (const step of removals([familyOf(all, task.blocks)])) {
    if (steps.length % stepsAtOnce === 0) await setImmediate();
    context.signal.throwIfAborted();
    steps.push(step);
    const share = step.saved / all.bytes;
    if (share < (levels[next] ?? Infinity)) continue;
    while (share >= (levels[next] ?? Infinity)) next++;
    if ((await measure(steps.length)) > lossBudget) {
      await halve(within, steps.length, lossBudget, measure);
      return found;
    }
    within = steps.length;
  }
  if (steps.length > within) await measure(steps.length);
  return found;
}

/** All units as one family. From 8 bits to 4 a matrix moves by the difference of both moves. */
function familyOf({ units, bits, factors }: ByteUnits, blocks: number): UnitFamily {
  const { K } = factors;
  const width = units.length + bits.length;
  const U = factors.U.slice();
  bits.forEach(({ matrix, bits: wanted }, at) => {
    const before = wanted === 4 ? bits.findIndex((other) => other.matrix === matrix && other.bits === 8) : -1;
    if (before < 0) return;
    const [own, other] = [units.length + at, units.length + before];
    for (let row = 0; row < K; row++) U[row * width + own]! -= U[row * width + other]!;
  });
  return {
    name: 'units',
    curvature: { kind: 'factors', U, K },
    cost: [...units, ...bits].map(({ cost }) => cost),
    group: [...units.map(({ group }) => group), ...bits.map(() => 2 * blocks)],
    least: [...leastOf(blocks), 0],
  };
}

function choiceOf(steps: readonly RemovalStep[], { units, bits }: ByteUnits, blocks: number): FixedChoice {
  const gone = removedUnits(
    steps.flatMap(({ unit }) => units[unit] ?? []),
    blocks,
  );
  const widths: Record<string, Bits> = {};
  for (const { unit } of steps) {
    const move = bits[unit - units.length];
    if (move) widths[move.matrix] = Math.min(move.bits, widths[move.matrix] ?? move.bits) as Bits;
  }
  const chosen: BitsChoice = widths;
  return Object.keys(chosen).length > 0 ? { ...gone, bits: chosen } : gone;
}
