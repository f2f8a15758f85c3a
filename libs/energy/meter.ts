import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** Counts the energy that the machine has taken since the meter was opened. */
export interface EnergyMeter {
  /** What it reads, for people. */
  readonly name: string;
  /** Joules since it was opened; never falls. */
  joules(): number;
}

/**
 * The energy meter of this machine, or undefined where none can be read (a virtual machine, no right to). Now that is RAPL of
 * x86 processors (/sys/class/powercap, the packages); a read takes some ten microseconds.
 */
export function openEnergyMeter(powercap = '/sys/class/powercap'): EnergyMeter | undefined {
  const zones = names(powercap)
    // intel-rapl:0 is a package; intel-rapl:0:1 a part of it, and counted with it.
    .filter((name) => /^intel-rapl:\d+$/.test(name))
    .map((name) => join(powercap, name))
    .filter((zone) => /^package/.test(text(join(zone, 'name')) ?? ''))
    .map(counterOf)
    .filter((counter) => counter !== undefined);
  if (zones.length === 0) return undefined;
  return { name: 'RAPL package', joules: () => zones.reduce((sum, read) => sum + read(), 0) };
}

/** Joules since now by a counter in microjoules that wraps at its range. Undefined where it cannot be read. */
function counterOf(zone: string): (() => number) | undefined {
  const file = join(zone, 'energy_uj');
  const range = microjoules(join(zone, 'max_energy_range_uj'));
  let last = microjoules(file);
  if (last === undefined || range === undefined) return undefined;
  let total = 0;
  return () => {
    const now = microjoules(file);
    if (now !== undefined) {
      total += now >= last! ? now - last! : now + range - last!;
      last = now;
    }
    return total / 1e6;
  };
}

function microjoules(file: string): number | undefined {
  const content = text(file);
  return content !== undefined && /^\d+$/.test(content) ? Number(content) : undefined;
}

function text(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8').trim();
  } catch {
    return undefined;
  }
}

function names(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}
