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
  /** Ends with the step that takes the predicted ΔL beyond it. Default: none. */
  readonly predicted?: number;
  /** Ends with the step that saves so much. Default: none. */
  readonly saved?: number;
}

/** The next unit of a family. */
interface Candidate {
  readonly unit: number;
  /** ΔL that taking it adds to those that are taken. */
  readonly increase: number;
  readonly cost: number;
  /** Of two the one with the greater merit goes first. */
  readonly merit: number;
}

/**
 * Greedy removal by saved cost per predicted nat, interactions included: of the set s taken so far
 *
 *   ΔL(s) = −gᵀs + ½ sᵀHs;  taking j adds −g_j + (H s)_j + ½ H_jj
 *
 * Units that add nothing or less come first, the greatest fall before the others. Every prefix of the steps is a choice of its own;
 * its `predicted` is ΔL(s) of its units. The steps go on until nothing may be removed; a caller with an event loop to mind takes
 * them a few at a time.
 *
 * In a family that is too large for its Hessian the candidates are a pool of the best, among which interactions are exact; all
 * are weighed anew when the best of the pool falls well behind those outside as last weighed, or when half of it is taken.
 *
 * @throws HeartwoodError INVALID_ARGUMENT when the arrays of a family disagree or hold what is no number
 */
export function* removals(families: readonly UnitFamily[]): Generator<RemovalStep, undefined> {
  const states = families.map((family) => new FamilyState(family));
  let [predicted, saved] = [0, 0];
  for (;;) {
    let best: { state: FamilyState; candidate: Candidate } | undefined;
    for (const state of states) {
      const candidate = state.best();
      if (candidate && (!best || candidate.merit > best.candidate.merit)) best = { state, candidate };
    }
    if (!best) return undefined;
    const { state, candidate } = best;
    state.take(candidate);
    predicted += candidate.increase;
    saved += candidate.cost;
    yield { family: state.name, unit: candidate.unit, predicted, saved };
  }
}

/** What is measured where some units are gone. */
export interface Bearing {
  /** ΔL of all that is gone, nats per sample. */
  readonly loss: number;
  /** ∂L/∂m there, [n], and the standard error of each. */
  readonly gradient: ArrayLike<number>;
  readonly error: ArrayLike<number>;
}

/** Standard errors of its slope by which a unit is thought to cost more than it seems to. */
const caution = 1;

/** Measures on the way. */
export interface Guide {
  /** A bearing is taken whenever so much more is saved, in the units of the costs. */
  readonly every: number;
  bearing(gone: readonly number[]): Promise<Bearing>;
}

/**
 * As {@link removals} of one family, with bearings on the way: at a set s₀ that is gone, loss and gradient are measured, and from there
 *
 *   ΔL(s₀ + s) = L(s₀) − g(s₀)ᵀs + ½ sᵀHs
 *
 * An order that minimises an estimate of ½ sᵀHs minimises its error with it (the optimiser's curse, Smith & Winkler 2006), and the more so the longer it
 * goes; and the loss is of second order near the unpruned network alone. −g(s₀) is H s₀ and all higher orders, of s₀ with every other unit, by one
 * gradient: random directions are left for what is chosen between two bearings. This is Gauss–Newton with the model rebuilt along the path, as
 * iterative OBS rebuilds its own (Hassibi & Stork 1993), but that only first order is taken anew. Slopes have errors too, which the best of many units
 * would have in their favour: units are weighed by the upper end, −g + one standard error (robust optimisation), and what is foretold is the mean.
 */
export async function* guidedRemovals(family: UnitFamily, guide: Guide): AsyncGenerator<RemovalStep, undefined> {
  const state = new FamilyState(family);
  const gone: number[] = [];
  let [predicted, saved, next] = [0, 0, guide.every];
  for (;;) {
    if (saved >= next) {
      const bearing = await guide.bearing(gone);
      state.restart(bearing);
      predicted = bearing.loss;
      next = saved + guide.every;
    }
    const candidate = state.best();
    if (!candidate) return undefined;
    state.take(candidate);
    gone.push(candidate.unit);
    predicted += candidate.increase;
    saved += candidate.cost;
    yield { family: state.name, unit: candidate.unit, predicted, saved };
  }
}

/** The steps of {@link removals} up to the one that passes a limit, that one included; all of them without limits. */
export function removalOrder(families: readonly UnitFamily[], limits: RemovalLimits = {}): RemovalStep[] {
  const steps: RemovalStep[] = [];
  for (const step of removals(families)) {
    steps.push(step);
    if (step.predicted > (limits.predicted ?? Infinity) || step.saved >= (limits.saved ?? Infinity)) break;
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

/** The pool is kept while its best is worth at least this share of the best outside, as last weighed. */
const patience = 0.3;

/** Candidates of a large family that are weighed against each other exactly. */
export const poolSize = 256;

/** Saved cost per nat; above all of those what does not raise the loss, by how much it falls. */
function meritOf(increase: number, cost: number): number {
  return increase > 0 ? Math.min(cost / increase, helpful) : helpful * (1 - increase);
}

const helpful = 1e200;

class FamilyState {
  readonly name: string;
  private readonly field: Field;
  private readonly gradient: Float64Array;
  /** What is added to what a unit seems to cost before it is weighed. */
  private readonly doubt: Float64Array;
  private readonly cost: Float64Array;
  private readonly group: Int32Array;
  /** How many units of each group may still go. */
  private readonly removable: Int32Array;
  private readonly taken: Uint8Array;
  /** Of a large family: the best merit outside of the pool when it was chosen, and how many of the pool were taken since. */
  private outside = -Infinity;
  private takes = 0;

  constructor(family: UnitFamily) {
    const n = family.cost.length;
    this.name = family.name;
    this.field = fieldOf(family.curvature, n);
    this.cost = Float64Array.from(family.cost);
    this.gradient = family.gradient ? Float64Array.from(family.gradient) : new Float64Array(n);
    this.doubt = new Float64Array(n);
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
    const found = this.takes < poolSize / 2 ? this.bestOf(pool.length, (at) => pool[at]!) : undefined;
    if (found && found.merit >= patience * this.outside) return found;
    this.choosePool();
    return this.bestOf(this.field.pool!.length, (at) => this.field.pool![at]!);
  }

  take({ unit }: Candidate): void {
    this.taken[unit] = 1;
    this.removable[this.group[unit]!]!--;
    this.takes++;
    this.field.take(unit);
  }

  /** Goes on from a point where the gradient is known. */
  restart({ gradient, error }: Bearing): void {
    if (gradient.length !== this.gradient.length || error.length !== this.gradient.length)
      throw invalid(`${this.name}: ${this.gradient.length} units go with ${gradient.length} gradients`);
    this.gradient.set(gradient);
    this.doubt.set(Float64Array.from(error, (value) => caution * value));
    this.field.restart();
    // The pool was chosen by what is no longer so.
    this.takes = poolSize;
  }

  /** The best units of all, by values that are exact. */
  private choosePool(): void {
    this.field.refresh();
    const merits = new Float64Array(this.cost.length).fill(-Infinity);
    for (let unit = 0; unit < merits.length; unit++) {
      if (!this.mayGo(unit)) continue;
      merits[unit] = this.candidate(unit).merit;
    }
    const sorted = merits.slice().sort();
    const limit = sorted[Math.max(0, sorted.length - poolSize)]!;
    const above: number[] = [];
    const equal: number[] = [];
    for (let unit = 0; unit < merits.length; unit++) {
      if (merits[unit]! > limit) above.push(unit);
      else if (merits[unit] === limit && limit > -Infinity) equal.push(unit);
    }
    this.field.choosePool(Int32Array.from([...above, ...equal.slice(0, poolSize - above.length)]).sort());
    // Those that may not go have no merit, and are sorted below all.
    this.outside = sorted.at(-poolSize - 1) ?? -Infinity;
    this.takes = 0;
  }

  private bestOf(count: number, unitAt: (at: number) => number): Candidate | undefined {
    let best: Candidate | undefined;
    for (let at = 0; at < count; at++) {
      const unit = unitAt(at);
      if (!this.mayGo(unit)) continue;
      const candidate = this.candidate(unit);
      if (!best || candidate.merit > best.merit) best = candidate;
    }
    return best;
  }

  private mayGo(unit: number): boolean {
    return this.taken[unit] === 0 && this.removable[this.group[unit]!]! > 0;
  }

  private candidate(unit: number): Candidate {
    const { diagonal, values } = this.field;
    const increase = values[unit]! - this.gradient[unit]! + 0.5 * diagonal[unit]!;
    const cost = this.cost[unit]!;
    return { unit, increase, cost, merit: meritOf(increase + this.doubt[unit]!, cost) };
  }
}
