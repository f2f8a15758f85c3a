import type { CallCost } from './queue-model.js';

/**
 * What a call costs at each rung of the ladder, learnt from the calls that have ended. Its *work* is the milliseconds of a worker that it
 * takes up (its share of a run that serves several), which decides how much load can be borne. Its *run* is the milliseconds from the
 * run's begin to its end, which its latency holds in full; how much longer that is than the work depends on how many calls share a run,
 * so on the load and not on the rung.
 *
 * A chip that gets hot, or runs that are shared by more calls, change all rungs alike, so what is seen at one rung moves the others by the
 * same ratio; the ratios between them are learnt at each rung's first calls. A rung never visited is foretold from the nearest one that was.
 */
export interface ServiceModel {
  readonly rungs: readonly (Known | undefined)[];
  /** Run over work, of the calls of late; undefined before the first. */
  readonly sharing: number | undefined;
  /** Work of the rungs relative to the first, until it is known. */
  readonly foretold: readonly number[];
}

interface Known {
  readonly workMs: number;
  /** Calls that it was learnt from. */
  readonly calls: number;
}

/** Calls after which a rung counts as known, and over which its estimate forgets. */
const memory = 20;

export function serviceModel(foretold: readonly number[]): ServiceModel {
  return { rungs: foretold.map(() => undefined), sharing: undefined, foretold };
}

/** The model after `calls` more calls at a rung, of these mean costs in milliseconds. */
export function learn(model: ServiceModel, rung: number, cost: CallCost, calls: number): ServiceModel {
  const { workMs, runMs } = cost;
  if (calls === 0 || !(workMs > 0) || !(runMs > 0)) return model;
  const forgetting = 1 - Math.exp(-calls / memory);
  const before = model.sharing ?? runMs / workMs;
  const sharing = before + (runMs / workMs - before) * forgetting;
  const known = model.rungs[rung];
  if (!known) {
    const rungs = model.rungs.map((other, at) => (at === rung ? { workMs, calls } : other));
    return { ...model, rungs, sharing };
  }
  // A running mean at first, exponential forgetting later.
  const gain = Math.max(calls / (known.calls + calls), forgetting);
  const shared = Math.min(1, known.calls / memory);
  const ratio = workMs / known.workMs - 1;
  const rungs = model.rungs.map((other, at): Known | undefined => {
    if (!other) return undefined;
    if (at === rung) return { workMs: other.workMs * (1 + gain * ratio), calls: Math.min(other.calls + calls, 1e6) };
    return { ...other, workMs: other.workMs * (1 + gain * shared * ratio) };
  });
  return { ...model, rungs, sharing };
}

/** Work and run of a call at a rung; undefined before any call has ended. A higher rung is never dearer than a lower one. */
export function costAt({ rungs, sharing, foretold }: ServiceModel, rung: number): CallCost | undefined {
  const below = rungs.slice(0, rung + 1).findLastIndex((known) => known !== undefined);
  const nearest = below >= 0 ? below : rungs.findIndex((known) => known !== undefined);
  const known = rungs[nearest];
  if (!known || sharing === undefined) return undefined;
  const lower = rungs.slice(0, rung).flatMap((other) => (other ? [other.workMs] : []));
  const workMs = Math.min((known.workMs * foretold[rung]!) / foretold[nearest]!, ...lower);
  return { workMs, runMs: workMs * sharing };
}
