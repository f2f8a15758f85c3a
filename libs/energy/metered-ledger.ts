import { longestPauseMs } from './integrator.js';
import { EnergyLedger } from './ledger.js';
import type { EnergyMeter } from './meter.js';
import { TOTAL } from './sample.js';

/** A ledger of what a meter counts, from its opening to its end. The meter must have a total. */
export function ledgerOf(meter: EnergyMeter): EnergyLedger {
  const ledger = new EnergyLedger();
  let counted = 0;
  meter.subscribe(({ time, joules, since }) => {
    const total = joules[TOTAL];
    // What a failed reading missed the next may bring, unless the pause gets too long.
    if (since === undefined || total === undefined) return ledger.advance(time - longestPauseMs);
    ledger.read({ from: since, to: time, joules: total - counted });
    counted = total;
  });
  void meter.ended.then(() => ledger.close());
  return ledger;
}
