import { invalid } from '../../errors/error.js';
import { fieldOf, type Field, type UnitCurvature } from './curvature-factors.js';

/**
 * Units that can be removed for good and interact with each other: the heads, or the neurons, or both under one Hessian. Families do
 * not interact: the second order of one knows nothing of another.
 */
export interface UnitFamily {
  /** 'heads', 'neurons'; names the family in the steps. */
  readonly name: string;
  readonly curvature: UnitCurvature;
  /** g = ∂L/∂m, [n]; zero under KL, and may be left out. */
  readonly gradient?: ArrayLike<number>;
  /** What the removal of each saves, FLOPs or time, [n]. */
  readonly cost: ArrayLike<number>;
  /** The group (a block) of each, [n], and how many of each group stay. */
  readonly group: ArrayLike<number>;
  readonly least: readonly number[];
}

/** Heads of a block that stay in any case, and neurons. */
export const leastHeads = 1;
export const leastNeurons = 8;

export interface RemovalStep {
  readonly family: string;
  /** Index within the family. */
  readonly unit: number;
  /** Predicted ΔL of all steps so far, nats per sample. */
  readonly predicted: number;
  /** What all steps so far save, in the units of the costs. */
  readonly saved: number;
}

export interface RemovalLimits {
  /** Stops when the predicted ΔL is beyond it. Default: none. */
  readonly predicted?: number;
  /** Stops when so much is saved. Default: none. */
  readonly saved?: number;
}

/** The next unit of a family. */
interface Candidate {
  readonly unit: number;
  /** ΔL that taking it adds to those that are taken. */
  readonly increase: number;
  readonly cost: number;
}

/**
 * Greedy removal by saved cost per predicted nat, interactions included: of the set s taken so far
 *
 *   ΔL(s) = −gᵀs + ½ sᵀHs;  taking j adds −g_j + (H s)_j + ½ H_jj
 *
 * Units that add nothing or less come first, the greatest fall before the others. Every prefix of the steps is a choice of its own;
 * its `predicted` is ΔL(s) of its units. The steps go on until nothing may be removed or a limit is passed (that step included).
 *
 * In a family that is too large for its Hessian the candidates are the {@link poolSize} best, among which interactions are exact;
 * all are weighed anew when the best of them falls behind those outside as last weighed, or half of them are taken.
 *
 * @throws HeartwoodError INVALID_ARGUMENT when the arrays of a family disagree or hold what is no number
 */
export function removalOrder(families: readonly UnitFamily[], limits: RemovalLimits = {}): RemovalStep[] {
  const states = families.map((family) => new FamilyState(family));
  const steps: RemovalStep[] = [];
  let [predicted, saved] = [0, 0];
  while (predicted <= (limits.predicted ?? Infinity) && saved < (limits.saved ?? Infinity)) {
    let best: { state: FamilyState; candidate: Candidate } | undefined;
    for (const state of states) {
      const candidate = state.best();
      if (candidate && (!best || precedes(candidate, best.candidate))) best = { state, candidate };
    }
    if (!best) break;
    const { state, candidate } = best;
    state.take(candidate);
    predicted += candidate.increase;
    saved += candidate.cost;
    steps.push({ family: state.name, unit: candidate.unit, predicted, saved });
  }
  return steps;
}

/** How many steps may be taken so that the predicted ΔL is within the budget: the longest such prefix. */
export function stepsWithin(steps: readonly RemovalStep[], predicted: number): number {
  return steps.findLastIndex((step) => step.predicted <= predicted) + 1;
}

/** How many steps it takes to save so much; undefined when all of them do not. */
export function stepsToSave(steps: readonly RemovalStep[], saved: number): number | undefined {
  if (saved <= 0) return 0;
  const index = steps.findIndex((step) => step.saved >= saved);
  return index < 0 ? undefined : index + 1;
}

/** The units of the first steps, by family, ascending. */
export function unitsOf(steps: readonly RemovalStep[], count: number): ReadonlyMap<string, number[]> {
  const found = new Map<string, number[]>();
  for (const { family, unit } of steps.slice(0, count)) found.set(family, [...(found.get(family) ?? []), unit]);
  for (const units of found.values()) units.sort((a, b) => a - b);
  return found;
}

/** Candidates of a large family that are weighed against each other exactly. */
export const poolSize = 256;

/** Whether a is to be taken before b: more cost per nat; a fall before any rise, the greater fall first. */
function precedes(a: Candidate, b: Candidate): boolean {
  if (a.increase <= 0 || b.increase <= 0)
    return a.increase < b.increase || (a.increase === b.increase && a.cost > b.cost);
  return a.cost * b.increase > b.cost * a.increase;
}

class FamilyState {
  readonly name: string;
  private readonly field: Field;
  private readonly gradient: Float64Array;
  private readonly cost: Float64Array;
  private readonly group: Int32Array;
  /** How many units of each group may still go. */
  private readonly removable: Int32Array;
  private readonly taken: Uint8Array;
  /** Of a large family: the best candidate outside of the pool when it was chosen, and how many of the pool may be taken. */
  private outside: Candidate | undefined;
  private takesLeft = 0;

  constructor(family: UnitFamily) {
    const n = family.cost.length;
    this.name = family.name;
    this.field = fieldOf(family.curvature, n);
    this.cost = Float64Array.from(family.cost);
    this.gradient = family.gradient ? Float64Array.from(family.gradient) : new Float64Array(n);
    this.group = Int32Array.from(family.group);
    this.taken = new Uint8Array(n);
    if (this.gradient.length !== n || this.group.length !== n) {
      throw invalid(
        `${family.name}: ${n} costs go with ${this.gradient.length} gradients and ${this.group.length} groups`,
      );
    }
    this.removable = Int32Array.from(family.least, (least) => -least);
    for (let j = 0; j < n; j++) {
      const group = this.group[j]!;
      if (this.removable[group] === undefined)
        throw invalid(`${family.name}: unit ${j} is of group ${group}, which has no least`);
      if (!(this.cost[j]! >= 0 && this.cost[j]! < Infinity) || !Number.isFinite(this.gradient[j]!)) {
        throw invalid(
          `${family.name}: unit ${j} saves ${this.cost[j]} at the gradient ${this.gradient[j]}, expected numbers`,
        );
      }
      this.removable[group]++;
    }
  }

  /** The unit to take next; undefined when none may go. */
  best(): Candidate | undefined {
    const { pool } = this.field;
    if (!pool) return this.bestOf(this.cost.length, (at) => at);
    const found = this.takesLeft > 0 ? this.bestOf(pool.length, (at) => pool[at]!) : undefined;
    if (found && !(this.outside && precedes(this.outside, found))) return found;
    return this.bestOfNewPool();
  }

  take({ unit }: Candidate): void {
    this.taken[unit] = 1;
    this.removable[this.group[unit]!]!--;
    this.takesLeft--;
    this.field.take(unit);
  }

  private bestOfNewPool(): Candidate | undefined {
    this.field.refresh();
    const candidates: Candidate[] = [];
    for (let unit = 0; unit < this.cost.length; unit++) if (this.mayGo(unit)) candidates.push(this.candidate(unit));
    candidates.sort((a, b) => (precedes(a, b) ? -1 : precedes(b, a) ? 1 : a.unit - b.unit));
    this.field.choosePool(Int32Array.from(candidates.slice(0, poolSize), ({ unit }) => unit));
    this.outside = candidates[poolSize];
    this.takesLeft = this.outside ? poolSize / 2 : poolSize;
    return candidates[0];
  }

  private bestOf(count: number, unitAt: (at: number) => number): Candidate | undefined {
    let best: Candidate | undefined;
    for (let at = 0; at < count; at++) {
      const unit = unitAt(at);
      if (!this.mayGo(unit)) continue;
      const candidate = this.candidate(unit);
      if (!best || precedes(candidate, best)) best = candidate;
    }
    return best;
  }

  private mayGo(unit: number): boolean {
    return this.taken[unit] === 0 && this.removable[this.group[unit]!]! > 0;
  }

  private candidate(unit: number): Candidate {
    const { diagonal, values } = this.field;
    return {
      unit,
      increase: values[unit]! - this.gradient[unit]! + 0.5 * diagonal[unit]!,
      cost: this.cost[unit]!,
    };
  }
}
