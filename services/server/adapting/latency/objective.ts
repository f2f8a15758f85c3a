import { invalid } from '../../../../libs/errors/error.js';

/** The 95th percentile of the latency that a model's calls are to keep. */
export interface LatencyObjective {
  /** Null: of every model without one of its own. */
  readonly model: string | null;
  readonly ms: number;
}

/** Reads `50ms`, `0.05s`, `50` (milliseconds) or `vit=50ms`. Throws INVALID_ARGUMENT saying what was expected. */
export function parseObjective(text: string): LatencyObjective {
  const match = /^(?:([^=]+)=)?\s*(\d+(?:\.\d+)?)\s*(ms|s)?$/.exec(text.trim());
  const ms = match ? Number(match[2]) * (match[3] === 's' ? 1000 : 1) : 0;
  if (!match || !(ms > 0)) {
    throw invalid(`latency objective ${JSON.stringify(text.slice(0, 60))}: expected such as 50ms, 0.05s or model=50ms`);
  }
  return { model: match[1]?.trim() ?? null, ms };
}

/** The objective of a model: its own, else the common one, if any. */
export function objectiveOf(objectives: readonly LatencyObjective[], model: string): number | undefined {
  const own = objectives.find((objective) => objective.model === model);
  return (own ?? objectives.find((objective) => objective.model === null))?.ms;
}
