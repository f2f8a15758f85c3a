import type { ClassifierSpec } from '../models/architectures/transformer.js';
import type { GateKind } from '../models/gates.js';
import type { EstimatorKind } from './estimators.js';
import type { Loss } from './losses.js';

export function defaultEstimator(
  _kind: GateKind,
  loss: Loss,
  classes: number,
): { readonly kind: EstimatorKind; readonly probes: number } {
  if (loss === 'cross-entropy') return { kind: 'gate-signs', probes: 32 };
  return classes <= 32 ? { kind: 'exact', probes: classes } : { kind: 'output-sketch', probes: 32 };
}

/** Rows of tokens that make the runtime's matrix products run at full speed; more costs memory alone. */
const rowsAtOnce = 1024;

/** Samples of a run. */
export function defaultBatch({ tokens }: ClassifierSpec): number {
  return Math.max(1, Math.min(32, Math.round(rowsAtOnce / tokens)));
}
