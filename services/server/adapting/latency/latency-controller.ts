import type { Registry } from '../../../../libs/telemetry/metrics.js';
import type { Logger } from '../../../../libs/telemetry/log.js';
import type { Catalog, CatalogListener } from '../../catalog/catalog.js';
import { readyVersions } from '../../catalog/version-table.js';
import { isClassifier, type ServedClassifier, type ServedVersion } from '../../catalog/served-version.js';
import { type BudgetPolicy, manifestBudget } from '../../inference/budget.js';
import type { InferenceObserver, InferenceRecord } from '../../inference/record.js';
import { type Change, control } from './control-law.js';
import { type ControlState, controlState } from './control-state.js';
import { ControllerMetrics, type ControllerReading } from './controller-metrics.js';
import { type Ladder, ladderOf } from './ladder.js';
import { type LatencyObjective, objectiveOf } from './objective.js';
import type { EndedCall } from './recent-calls.js';

export interface ControllerSettings {
  readonly objectives: readonly LatencyObjective[];
  /** Workers that the versions share. */
  readonly workers: number;
}

/** A version under control. */
interface Controlled {
  readonly served: ServedClassifier;
  readonly ladder: Ladder;
  readonly objectiveMs: number;
  state: ControlState;
  /** Since the last look. */
  ended: EndedCall[];
  arrived: number;
  pending: number;
}

/** Milliseconds over which the share of the workers' time is averaged. */
const busySpan = 1000;
/** Calls that came to this were asked for and not answered in time, whatever the reason. */
const missed: readonly InferenceRecord['outcome'][] = ['RESOURCE_EXHAUSTED', 'DEADLINE_EXCEEDED'];

/**
 * Moves the budget of calls that name none between a version's default and its ceiling, so that the objective is kept under load and
 * on a hot chip. It looks at each queue several times within the objective, by a timer that keeps no process alive; what a look leads to
 * is `control-law.ts`. Versions without an objective, without a budget, or whose ceiling is their default stay at their defaults.
 */
export class LatencyController implements BudgetPolicy, InferenceObserver, CatalogListener {
  readonly #controlled = new Map<ServedVersion, Controlled>();
  /** Milliseconds of work since the last look, by version, and the share of the workers' time that it has been. */
  readonly #busy = new Map<ServedVersion, { workMs: number; share: number }>();
  /** Of the repository, loaded or not. */
  #models: ReadonlySet<string> = new Set();
  readonly #metrics: ControllerMetrics;
  #timer: NodeJS.Timeout | undefined;
  #lookedAt = performance.now();

  constructor(
    private readonly settings: ControllerSettings,
    registry: Registry,
    private readonly log: Logger,
  ) {
    this.#metrics = new ControllerMetrics(registry, () => this.#readings());
  }

  budgetOf(version: ServedVersion): number {
    const controlled = this.#controlled.get(version);
    return controlled ? budgetAt(controlled, controlled.state.rung) : manifestBudget.budgetOf(version);
  }

  /** Looks from now on until `stop`. The repository has been read: an objective of a model that it has not is warned of. */
  start(): void {
    const shortest = Math.min(...this.settings.objectives.map(({ ms }) => ms));
    if (shortest === Infinity || this.#timer) return;
    for (const { model, ms } of this.settings.objectives) {
      if (model !== null && !this.#models.has(model))
        this.log.warn({ model, objectiveMs: ms }, 'a model with a latency objective is not in the repository');
    }
    this.#lookedAt = performance.now();
    this.#timer = setInterval(() => this.#look(performance.now()), Math.min(250, Math.max(20, shortest / 4)));
    this.#timer.unref();
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  changed(catalog: Catalog): void {
    this.#models = new Set(catalog.list().map(({ model }) => model));
    const ready = new Set<ServedVersion>(readyVersions(catalog));
    for (const known of this.#busy.keys()) {
      if (ready.has(known)) continue;
      this.#busy.delete(known);
      this.#controlled.delete(known);
    }
    for (const served of ready) {
      if (this.#busy.has(served)) continue;
      this.#busy.set(served, { workMs: 0, share: 0 });
      if (!isClassifier(served)) continue;
      const objectiveMs = objectiveOf(this.settings.objectives, served.model);
      const ladder = ladderOf(served.manifest);
      if (objectiveMs === undefined || !ladder) continue;
      const state = controlState({ objectiveMs, work: ladder.work }, performance.now());
      this.#controlled.set(served, { served, ladder, objectiveMs, state, ended: [], arrived: 0, pending: 0 });
    }
  }

  ended({ version, outcome, phases, run }: InferenceRecord): void {
    if (!version) return;
    // A call's share of the run that it was part of.
    const workMs = run ? ((phases.compute ?? 0) * run.batch) / run.runBatch : 0;
    const busy = this.#busy.get(version);
    if (busy) busy.workMs += workMs;
    const controlled = this.#controlled.get(version);
    if (!controlled) return;
    const endedAt = performance.now();
    const arrivedAt = endedAt - (phases.total ?? 0);
    if (run && outcome === 'OK') {
      controlled.arrived++;
      controlled.ended.push({
        arrivedAt,
        endedAt,
        totalMs: phases.total ?? 0,
        rung: rungOf(controlled, run.budget),
        cost: { workMs: workMs / controlled.served.instances, runMs: phases.compute ?? 0 },
      });
    } else if (missed.includes(outcome)) {
      controlled.arrived++;
      controlled.ended.push({ arrivedAt, endedAt, totalMs: Infinity, rung: undefined });
    }
  }

  #look(now: number): void {
    const span = now - this.#lookedAt;
    if (!(span > 0)) return;
    this.#lookedAt = now;
    let total = 0;
    for (const busy of this.#busy.values()) {
      const share = busy.workMs / span / this.settings.workers;
      busy.share += (share - busy.share) * (1 - Math.exp(-span / busySpan));
      busy.workMs = 0;
      total += busy.share;
    }
    for (const controlled of this.#controlled.values()) this.#lookAt(controlled, now, total);
  }

  #lookAt(controlled: Controlled, now: number, busy: number): void {
    const { served, ladder, objectiveMs, ended } = controlled;
    const { pending, oldestWaitingMs } = served.scheduler;
    // What ended had come, and so has what waits now and did not before.
    const arrived = Math.max(0, controlled.arrived + pending - controlled.pending);
    const others = Math.max(0, Math.min(1, busy - (this.#busy.get(served)?.share ?? 0)));
    Object.assign(controlled, { ended: [], arrived: 0, pending });
    const before = controlled.state;
    const sample = { now, arrived, pending, oldestWaitingMs, ended, others };
    const { state, change } = control({ objectiveMs, work: ladder.work }, before, sample);
    controlled.state = state;
    if (change) this.#tell(controlled, change);
    if (state.exhausted && !before.exhausted) {
      const { model, version } = served;
      this.log.warn(
        { model, version, objectiveMs },
        'the budget is at its ceiling, and the latency objective is missed',
      );
    }
  }

  #tell(controlled: Controlled, { from, to, direction, reason }: Change): void {
    const { model, version } = controlled.served;
    this.#metrics.changed(model, version, direction);
    this.log.info(
      {
        event: 'budget',
        model,
        version,
        from: budgetAt(controlled, from),
        to: budgetAt(controlled, to),
        objectiveMs: controlled.objectiveMs,
        reason,
      },
      direction === 'up' ? 'budget raised' : 'budget lowered',
    );
  }

  #readings(): ControllerReading[] {
    return [...this.#controlled.values()].map((controlled) => ({
      model: controlled.served.model,
      version: controlled.served.version,
      budget: budgetAt(controlled, controlled.state.rung),
      objectiveMs: controlled.objectiveMs,
      p95Ms: controlled.state.p95,
      exhausted: controlled.state.exhausted,
    }));
  }
}

function budgetAt({ ladder }: Controlled, rung: number): number {
  return ladder.budgets[rung]!;
}

/** The rung at whose budget all samples ran; the model holds budgets in float32. */
function rungOf({ ladder }: Controlled, budgets: readonly number[] | undefined): number | undefined {
  const [first] = budgets ?? [];
  if (first === undefined || budgets?.some((budget) => budget !== first)) return undefined;
  const rung = ladder.budgets.findIndex((budget) => Math.fround(budget) === first);
  return rung < 0 ? undefined : rung;
}
