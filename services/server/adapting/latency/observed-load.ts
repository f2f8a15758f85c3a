/** The load as the looks and the recent calls tell it: of the moment, of a while, and as much as is certain. */
import type { ControlSettings, ControlState, Look, Sample } from './control-state.js';
import { spansOf } from './control-state.js';
import type { Load } from './queue-model.js';
import type { EndedCall } from './recent-calls.js';

/** Of the calls, those that named a budget of their own: their share, and the mean work of one, milliseconds. */
export interface OwnCalls {
  readonly share: number;
  readonly workMs: number;
}

export function ownCallsOf(calls: readonly EndedCall[]): OwnCalls {
  let [ran, own, workMs] = [0, 0, 0];
  for (const { rung, cost } of calls) {
    if (!cost) continue;
    ran++;
    if (rung !== undefined) continue;
    own++;
    workMs += cost.workMs;
  }
  return { share: ran > 0 ? own / ran : 0, workMs: own > 0 ? workMs / own : 0 };
}

/** A load, and the milliseconds that it was counted over. */
export interface Counted extends Load {
  readonly over: number;
}

/** The load of a span, or of as much of it as has been seen: the calls whose budget the law sets, and what all else takes of the worker. */
export function loadOf(own: OwnCalls, { now, others }: Sample, looks: readonly Look[], span: number): Counted {
  let [arrived, from] = [0, now];
  // A look counts what came since the one before it, so the oldest one tells the time alone.
  for (let at = looks.length - 1; at > 0 && looks[at]!.at > now - span; at--) {
    arrived += looks[at]!.arrived;
    from = looks[at - 1]!.at;
  }
  const rate = now > from ? arrived / (now - from) : 0;
  return { rate: rate * (1 - own.share), others: others + rate * own.share * own.workMs, over: now - from };
}

export interface View {
  readonly moment: Load;
  /** As much load as there is beyond what chance explains: the most over several spans, each a standard deviation less. */
  readonly certain: Load;
  /** The greater of the loads of half a rest and of a whole one. */
  readonly lasting: Load;
}

export function viewOf({ objectiveMs }: ControlSettings, { calls, looks }: ControlState, sample: Sample): View {
  const { moment, rest } = spansOf(objectiveMs);
  const own = ownCallsOf(calls);
  const spans = [moment, rest / 2, rest] as const;
  const [now, half, whole] = spans.map((span) => loadOf(own, sample, looks, span)) as [Counted, Counted, Counted];
  const rates = [now, half, whole].map(({ rate, over }) => (over > 0 ? Math.max(0, rate - Math.sqrt(rate / over)) : 0));
  return {
    moment: now,
    certain: { ...now, rate: Math.max(...rates) },
    lasting: half.rate > whole.rate ? half : whole,
  };
}
