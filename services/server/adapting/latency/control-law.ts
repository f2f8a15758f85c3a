/**
 * The law by which a budget follows the load, as a pure function: state and a look at the queue in, state and perhaps a change out.
 *
 * The plant is a queue. What the law can set is the time that a call takes (more budget, less work), and it takes effect only on calls
 * that come after the change: those that wait already run at the budget they came with, so the dead time is the queue's own length. A
 * law that integrates the error would wind up over that time and overshoot; this one keeps no integral. It knows the queue's model
 * (`queue-model.ts`) and learns its numbers (`service-model.ts`), and goes at once to the rung that the model says bears the load:
 *
 * - Up, within a tick, when latency is lost or about to be: the answers' 95th percentile is above the objective; or a call that came
 *   now would wait so long that it misses, and the load of the moment says that it will stay so. It goes to the lowest rung that bears
 *   this load and works the backlog off. Where the model sees no need and the calls miss nevertheless it goes one rung, and then waits
 *   until what the rung does has been seen: the calls from before the change are gone, and enough new ones have ended.
 * - Down, only after a rest in which nothing pressed, only to where the model foretells the objective held with room to spare, and only
 *   half of the way at a time.
 *
 * Between the load at which it rises and that at which it falls lies a band (hysteresis), and a fall that had to be taken back doubles
 * the rest before the next one: whatever the model gets wrong, the number of turns in a time T grows as log T.
 */
import { type ControlSettings, type ControlState, type Sample, spansOf } from './control-state.js';
import { loadOf, ownCallsOf, type View, viewOf } from './observed-load.js';
import { type CallCost, foretoldP95, utilisation, type Load } from './queue-model.js';
import { leastCalls, p95Since, recent } from './recent-calls.js';
import { costAt, learn } from './service-model.js';

export interface Change {
  readonly from: number;
  readonly to: number;
  readonly direction: 'up' | 'down';
  /** One clause for the log. */
  readonly reason: string;
}

/** Utilisation up to which a rise aims, and up to which a fall may lead. */
const [risingLoad, fallingLoad] = [0.85, 0.75];
/** Of the time that the objective leaves for waiting: what a rise aims at, and what a fall may lead to. */
const [risingAim, fallingAim] = [0.75, 0.6];
/** Of the objective: the latency to come that makes the law look at the load, and the wait that is an alarm whatever the load. */
const [early, alarm] = [1.1, 2];
const mostPatience = 32;

/** The state after a look, and the change that it asks for, if any. */
export function control(
  settings: ControlSettings,
  before: ControlState,
  sample: Sample,
): { readonly state: ControlState; readonly change?: Change } {
  const seen = observe(settings, before, sample);
  const view = viewOf(settings, seen, sample);
  const pressure = pressureOf(settings, seen, sample, view);
  const top = settings.work.length - 1;
  const { rest } = spansOf(settings.objectiveMs);
  // While the backlog from before the last rise is worked off nothing is lost yet.
  const lately = sample.now - seen.pressedAt < rest;
  const state: ControlState = {
    ...seen,
    pressedAt: pressure ? sample.now : seen.pressedAt,
    exhausted:
      seen.rung === top && (pressure !== undefined ? sample.now - seen.changedAt > rest : lately && seen.exhausted),
  };
  if (pressure && seen.rung < top) {
    const to = pressure.stepwise ? seen.rung + 1 : bearing(settings, seen, sample, view);
    return turn(settings, state, to, sample.now, pressure.reason);
  }
  if (!pressure && seen.rung > 0) {
    const fall = fallOf(settings, state, sample, view);
    if (fall) return turn(settings, state, fall.to, sample.now, fall.reason);
  }
  return { state };
}

/** What the calls that ended, and the queue, add to what is known. */
function observe({ objectiveMs }: ControlSettings, before: ControlState, sample: Sample): ControlState {
  const { now, ended, arrived, pending } = sample;
  const spans = spansOf(objectiveMs);
  let { service, patience, patienceAt } = before;
  for (let rung = 0; rung < service.rungs.length; rung++) {
    const costs = ended.flatMap((call) => (call.rung === rung && call.cost ? [call.cost] : []));
    const mean = (read: (cost: (typeof costs)[number]) => number) =>
      costs.reduce((sum, cost) => sum + read(cost), 0) / costs.length;
    if (costs.length === 0) continue;
    const cost = { workMs: mean(({ workMs }) => workMs), runMs: mean(({ runMs }) => runMs) };
    service = learn(service, rung, cost, costs.length);
  }
  const calls = recent(before.calls, ended, now, spans.latencies);
  const looks = [...before.looks, { at: now, arrived, pending }].filter(({ at }) => at > now - spans.rest);
  const { rung, changedAt, direction } = before;
  // What has stood long without being taken back was right.
  if (patience > 1 && direction !== 'up' && now - Math.max(changedAt, patienceAt) > 4 * spans.rest * patience) {
    [patience, patienceAt] = [patience / 2, now];
  }
  const same = ended.length === 0 && calls.length === before.calls.length;
  const p95 = same ? before.p95 : p95Since(calls, changedAt);
  let { burstiness } = before;
  const cost = costAt(service, rung);
  if (p95 !== undefined && cost && ended.length > 0) {
    const load = loadOf(ownCallsOf(calls), sample, looks, spans.rest);
    const foretold = utilisation(load, cost) < 0.9 ? foretoldP95(load, cost) : Infinity;
    const ratio = Math.min(3, Math.max(0.75, p95 / foretold));
    if (foretold < Infinity) burstiness += (ratio - burstiness) * (1 - Math.exp(-ended.length / (5 * leastCalls)));
  }
  return { ...before, service, calls, looks, patience, patienceAt, burstiness, p95 };
}

interface Pressure {
  readonly reason: string;
  /** One rung, for want of a model that says how many. */
  readonly stepwise: boolean;
}

function pressureOf(
  { objectiveMs }: ControlSettings,
  state: ControlState,
  { now, pending, oldestWaitingMs }: Sample,
  { certain }: View,
): Pressure | undefined {
  const { service, rung, changedAt, direction, p95 } = state;
  const cost = costAt(service, rung);
  const waiting = Math.max(oldestWaitingMs, Math.max(0, pending - 1) * (cost?.workMs ?? 0));
  const foretold = cost ? foretoldP95(certain, cost) : undefined;
  const late = waiting + (cost?.runMs ?? 0);
  if (late > early * objectiveMs && pending > 1 && foretold !== undefined && foretold > objectiveMs) {
    const busy = Math.round(100 * utilisation(certain, cost!));
    return { reason: `a call that comes now would take ${ms(late)}, and the load is ${busy} %`, stepwise: false };
  }
  // Until the calls from before a rise are gone, what they wait says nothing of it.
  const settled = direction !== 'up' || oldestWaitingMs < now - changedAt;
  if (waiting > alarm * objectiveMs && settled) {
    return { reason: `calls wait for ${ms(waiting)}`, stepwise: true };
  }
  // Calls that wait for each other miss together: a few at once are no percentile.
  const { rest } = spansOf(objectiveMs);
  const long = now - changedAt > rest / 2;
  const lately = (state.calls.at(-1)?.endedAt ?? -Infinity) > now - rest / 2;
  if (p95 !== undefined && p95 > objectiveMs && settled && long && lately) {
    const stepwise = foretold === undefined || foretold <= objectiveMs;
    return { reason: `the 95th percentile is ${ms(p95)}`, stepwise };
  }
  return undefined;
}

/** The lowest rung above this one that bears the load of the moment and works the backlog off; the last one where none does. */
function bearing(
  { objectiveMs, work }: ControlSettings,
  { service, rung, burstiness }: ControlState,
  { pending }: Sample,
  { moment }: View,
): number {
  const backlog = Math.max(0, pending * (costAt(service, rung)?.workMs ?? 0) - objectiveMs / 2);
  const load = { rate: moment.rate, others: moment.others + backlog / spansOf(objectiveMs).drain };
  for (let to = rung + 1; to < work.length; to++) {
    const cost = costAt(service, to);
    if (!cost) return to;
    const held = burstiness * foretoldP95(load, cost) <= aim(objectiveMs, cost, risingAim);
    if (held && utilisation(load, cost) <= risingLoad) return to;
  }
  return work.length - 1;
}

/** The latency at which a call waits this share of what its run leaves of the objective. */
function aim(objectiveMs: number, { runMs }: CallCost, share: number): number {
  return Math.min(0.95 * objectiveMs, runMs + share * Math.max(0, objectiveMs - runMs));
}

/** Where a fall leads, when nothing speaks against one. */
function fallOf(
  { objectiveMs }: ControlSettings,
  state: ControlState,
  { now }: Sample,
  { lasting }: View,
): { readonly to: number; readonly reason: string } | undefined {
  const { rung, service, burstiness, p95, changedAt, pressedAt, patience } = state;
  const rest = spansOf(objectiveMs).rest * patience;
  if (now - changedAt < rest || now - pressedAt < rest) return undefined;
  const closed = p95 !== undefined && isClosed(state, lasting);
  const present = costAt(service, rung);
  const latencyAt = (to: number): number => {
    const cost = costAt(service, to);
    if (!cost || !present) return 0;
    const open = utilisation(lasting, cost) <= fallingLoad ? burstiness * foretoldP95(lasting, cost) : Infinity;
    return closed ? Math.min(open, (p95 * cost.workMs) / present.workMs) : open;
  };
  const holds = (to: number): boolean => {
    const cost = costAt(service, to);
    return !cost || latencyAt(to) <= aim(objectiveMs, cost, fallingAim);
  };
  let safe = rung;
  while (safe > 0 && holds(safe - 1)) safe--;
  if (safe === rung) return undefined;
  const to = rung - Math.ceil((rung - safe) / 2);
  return { to, reason: `the 95th percentile is foretold to be ${ms(latencyAt(to))}` };
}

/**
 * Whether the clients wait for their answers before they ask again, so that fewer calls come when each takes longer, and latency moves
 * with a call's work: nobody ever waits (there is one client), or the worker is always busy and the queue is as long as there are clients.
 * A queue that strangers fill is never both full and of one length. Taken wrongly, the fall is taken back, and the next one waits longer.
 */
function isClosed({ service, rung, looks }: ControlState, load: Load): boolean {
  if (looks.every(({ pending }) => pending <= 1)) return true;
  const cost = costAt(service, rung);
  if (!cost || utilisation(load, cost) < 0.9) return false;
  const mean = looks.reduce((sum, { pending }) => sum + pending, 0) / looks.length;
  const spread = Math.sqrt(looks.reduce((sum, { pending }) => sum + (pending - mean) ** 2, 0) / looks.length);
  return mean >= 1 && spread <= 0.35 * mean;
}

function turn(
  { objectiveMs }: ControlSettings,
  state: ControlState,
  to: number,
  now: number,
  reason: string,
): { readonly state: ControlState; readonly change: Change } {
  const from = state.rung;
  const direction = to > from ? 'up' : 'down';
  const soon = now - state.changedAt < 3 * spansOf(objectiveMs).rest * state.patience;
  const takenBack = direction === 'up' && state.direction === 'down' && soon;
  const patience = takenBack ? Math.min(mostPatience, 2 * state.patience) : state.patience;
  return {
    state: { ...state, rung: to, direction, changedAt: now, patience, patienceAt: now, p95: undefined },
    change: { from, to, direction, reason },
  };
}

function ms(value: number): string {
  return value === Infinity
    ? 'beyond any (calls are refused)'
    : `${value < 10 ? value.toFixed(1) : value.toFixed(0)} ms`;
}
