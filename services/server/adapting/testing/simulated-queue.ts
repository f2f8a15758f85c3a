import { randomFor } from '../../../../libs/data/random.js';
import { type Change, control } from '../latency/control-law.js';
import { type ControlSettings, controlState } from '../latency/control-state.js';
import type { EndedCall } from '../latency/recent-calls.js';

/** A queue in front of one worker, with the control law in the loop; times in milliseconds. */
export interface Plant {
  readonly settings: ControlSettings;
  /** Time of a call at a rung, at a time. */
  serviceMs(rung: number, now: number): number;
  /** Calls per second that come on their own, at a time. */
  rate(now: number): number;
  /** Clients that ask again as soon as they are answered, at a time. */
  clients?(now: number): number;
  /** Share by which a call's time varies about its mean. Default 0.1. */
  readonly jitter?: number;
  /** Share of the calls that name a budget of their own, that of rung 0.5: they are never changed. */
  readonly own?: number;
  /** Calls that wait; one more is refused. */
  readonly limit?: number;
  readonly untilMs: number;
  readonly tickMs: number;
  readonly seed: number;
  /** False: the law looks on and changes nothing. */
  readonly controlled?: boolean;
}

export interface Answered {
  readonly arrivedAt: number;
  readonly latencyMs: number;
}

export interface Trace {
  readonly answered: readonly Answered[];
  readonly changes: readonly (Change & { readonly at: number })[];
  /** The rung at a time. */
  rungAt(now: number): number;
}

interface Waiting {
  readonly arrivedAt: number;
  readonly rung: number;
  readonly own: boolean;
}

/** Runs the plant to its end, event by event. */
export function simulate(plant: Plant): Trace {
  const { settings, untilMs, tickMs, jitter = 0.1, own = 0, limit = Infinity, controlled = true } = plant;
  const random = randomFor(plant.seed);
  const uniform = () => (random.next() >>> 0) / 2 ** 32;
  const answered: Answered[] = [];
  const changes: (Change & { at: number })[] = [];
  let state = controlState(settings, 0);
  let rung = 0;
  const queue: Waiting[] = [];
  let current: (Waiting & { readonly startedAt: number; readonly endsAt: number }) | undefined;
  let asking = 0;
  let ended: EndedCall[] = [];
  let arrived = 0;
  const fastest = Math.max(1e-9, ...Array.from({ length: 1000 }, (_, at) => plant.rate((at / 1000) * untilMs)));
  const gap = () => (-Math.log(1 - uniform()) / fastest) * 1000;
  let [nextArrival, nextTick, now] = [gap(), tickMs, 0];

  const begin = (): void => {
    const next = current ? undefined : queue.shift();
    if (!next) return;
    const mean = next.own ? plant.serviceMs(0.5, now) : plant.serviceMs(next.rung, now);
    current = { ...next, startedAt: now, endsAt: now + mean * (1 + jitter * (2 * uniform() - 1)) };
  };
  const arrive = (): void => {
    arrived++;
    if (queue.length >= limit) {
      ended.push({ arrivedAt: now, endedAt: now, totalMs: Infinity, rung: undefined });
      answered.push({ arrivedAt: now, latencyMs: Infinity });
      return;
    }
    queue.push({ arrivedAt: now, rung, own: uniform() < own });
    begin();
  };
  const clients = (): void => {
    for (; asking < (plant.clients?.(now) ?? 0); asking++) arrive();
  };
  const finish = (call: NonNullable<typeof current>): void => {
    const latencyMs = now - call.arrivedAt;
    const cost = { workMs: now - call.startedAt, runMs: now - call.startedAt };
    const at = call.own ? undefined : call.rung;
    ended.push({ arrivedAt: call.arrivedAt, endedAt: now, totalMs: latencyMs, rung: at, cost });
    answered.push({ arrivedAt: call.arrivedAt, latencyMs });
    current = undefined;
    if (asking > 0) asking--;
    clients();
    begin();
  };
  const tick = (): void => {
    const oldest = queue[0];
    const pending = queue.length + (current ? 1 : 0);
    const sample = { now, arrived, pending, oldestWaitingMs: oldest ? now - oldest.arrivedAt : 0, ended, others: 0 };
    const next = control(settings, state, sample);
    [ended, arrived] = [[], 0];
    if (!controlled) return;
    state = next.state;
    rung = state.rung;
    if (next.change) changes.push({ ...next.change, at: now });
  };

  clients();
  while (now < untilMs) {
    now = Math.min(nextArrival, nextTick, current?.endsAt ?? Infinity);
    if (current && now === current.endsAt) finish(current);
    else if (now === nextTick) {
      nextTick += tickMs;
      tick();
      clients();
    } else {
      nextArrival += gap();
      // Thinning (Lewis & Shedler 1979): of arrivals at the fastest rate so many are taken as the rate of the moment says.
      if (uniform() * fastest < plant.rate(now)) arrive();
    }
  }
  return { answered, changes, rungAt: (at) => changes.findLast((change) => change.at <= at)?.to ?? 0 };
}

/** The 95th percentile of the latencies of the calls that came within [from, to). */
export function p95Of({ answered }: Trace, from: number, to: number): number {
  const within = answered.filter(({ arrivedAt }) => arrivedAt >= from && arrivedAt < to);
  const sorted = Float64Array.from(within, ({ latencyMs }) => latencyMs).sort();
  return sorted[Math.ceil(0.95 * sorted.length) - 1] ?? NaN;
}

/** How often the budget turned from rising to falling or back. */
export function turnsOf({ changes }: Trace): number {
  return changes.filter((change, at) => at > 0 && change.direction !== changes[at - 1]!.direction).length;
}
