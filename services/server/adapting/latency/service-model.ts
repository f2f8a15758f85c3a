import type { CallCost } from './queue-model.js';

/**
 * What a call costs at each rung of the ladder, learnt from the calls that have ended. Two numbers a rung: its *work*, the milliseconds
 * of a worker that a call takes up (its share of a run that serves several), which decides how much load can be borne; and its *run*, the
 * milliseconds from the run's begin to its end, which a call's latency holds in full.
 *
 * A chip that gets hot, or batches that grow, change all rungs alike, so what is seen at one rung moves the others by the same ratio;
 * the ratios between them are learnt at each rung's first calls. A rung never visited is foretold from the nearest one that was.
 */
export interface ServiceModel {
  readonly rungs: readonly (Cost | undefined)[];
  /** Work of the rungs relative to the first, until it is known. */
  readonly foretold: readonly number[];
}

interface Cost extends CallCost {
  /** Calls that it was learnt from. */
  readonly calls: number;
}

/** Calls after which a rung counts as known, and over which its estimate forgets. */
const memory = 20;

export function serviceModel(foretold: readonly number[]): ServiceModel {
  return { rungs: foretold.map(() => undefined), foretold };
}

/** The model after `calls` more calls at a rung, of these mean costs in milliseconds. */
export function learn(model: ServiceModel, rung: number, workMs: number, runMs: number, calls: number): ServiceModel {
  if (calls === 0 || !(workMs > 0) || !(runMs > 0)) return model;
  const known = model.rungs[rung];
  if (!known) {
    const rungs = model.rungs.map((cost, at) => (at === rung ? { workMs, runMs, calls } : cost));
    return { ...model, rungs };
  }
  // A running mean at first, exponential forgetting later.
  const gain = Math.max(calls / (known.calls + calls), 1 - Math.exp(-calls / memory));
  const shared = Math.min(1, known.calls / memory);
  const workRatio = workMs / known.workMs - 1;
  const runRatio = runMs / known.runMs - 1;
  const rungs = model.rungs.map((cost, at): Cost | undefined => {
    if (!cost) return undefined;
    const weight = at === rung ? gain : gain * shared;
    return {
      workMs: cost.workMs * (1 + weight * workRatio),
      runMs: cost.runMs * (1 + weight * runRatio),
      calls: at === rung ? Math.min(cost.calls + calls, 1e6) : cost.calls,
    };
  });
  return { ...model, rungs };
}

/** Work and run of a call at a rung; undefined before any call has ended. A higher rung is never dearer than a lower one. */
export function costAt({ rungs, foretold }: ServiceModel, rung: number): CallCost | undefined {
  const below = rungs.slice(0, rung + 1).findLastIndex((cost) => cost !== undefined);
  const nearest = below >= 0 ? below : rungs.findIndex((cost) => cost !== undefined);
  const known = rungs[nearest];
  if (!known) return undefined;
  const ratio = foretold[rung]! / foretold[nearest]!;
  const lower = rungs.slice(0, rung).filter((cost) => cost !== undefined);
  return {
    workMs: Math.min(known.workMs * ratio, ...lower.map(({ workMs }) => workMs)),
    runMs: Math.min(known.runMs * ratio, ...lower.map(({ runMs }) => runMs)),
  };
}
