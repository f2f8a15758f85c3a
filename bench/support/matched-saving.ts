/** What a network loses when it saves exactly a given share of the FLOPs. */
import type { OpenNetwork } from '../../libs/pruning/calibration/network.js';
import { measureRow } from '../../libs/pruning/calibration/table.js';
import type { PreparedSamples } from '../../libs/pruning/measure/prepared.js';

/** Means over the test samples. */
export interface Loss {
  /** KL(dense ‖ pruned), nats. */
  readonly kl: number;
  /** Null without labels. */
  readonly accuracy: number | null;
}

interface Measured extends Loss {
  readonly saved: number;
}

/** A row that is this near needs no second one. */
const near = 5e-4;
/** How far beyond the share the other row is looked for. */
const margin = 0.01;
const mostRows = 6;
/** Below it KL is the rounding of float32, and has no logarithm worth interpolating. */
const leastLoss = 1e-9;

/**
 * Measures rows on the test samples until one saves no less than `share` of the FLOPs and one no more, and interpolates: the
 * logarithm of KL and the accuracy are linear in the measured saving. Undefined where the stages cannot save as much.
 * @param place thresholds for a nominal share, from other samples than the test's
 */
export async function lossAt(
  network: OpenNetwork,
  test: PreparedSamples,
  share: number,
  dense: number,
  place: (nominal: number) => Promise<readonly number[] | undefined>,
): Promise<Loss | undefined> {
  const rows: Measured[] = [];
  let nominal = share;
  for (let step = 0; step < mostRows; step++) {
    const thresholds = await place(nominal);
    if (!thresholds) return undefined;
    const { kl, accuracy, flopsSaved: saved } = await measureRow(network, test, thresholds, dense);
    rows.push({ kl, accuracy, saved });
    const found = between(rows, share);
    if (found) return found;
    // All rows so far lie on one side.
    nominal += share - saved + (saved < share ? margin : -margin);
  }
  return undefined;
}

function between(rows: readonly Measured[], share: number): Loss | undefined {
  const exact = rows.find(({ saved }) => Math.abs(saved - share) < near);
  if (exact) return { kl: exact.kl, accuracy: exact.accuracy };
  const ascending = [...rows].sort((a, b) => a.saved - b.saved);
  const above = ascending.find(({ saved }) => saved >= share);
  const below = ascending.findLast(({ saved }) => saved < share);
  if (!above || !below) return undefined;
  const weight = (share - below.saved) / (above.saved - below.saved);
  const mix = (a: number, b: number) => a + weight * (b - a);
  const log = (kl: number) => Math.log(Math.max(kl, leastLoss));
  return {
    kl: Math.exp(mix(log(below.kl), log(above.kl))),
    accuracy: below.accuracy === null || above.accuracy === null ? null : mix(below.accuracy, above.accuracy),
  };
}
