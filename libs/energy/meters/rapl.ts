/**
 * RAPL, the energy counters of x86 processors (Intel's, and AMD's by the same names):
 * <root>/sys/class/powercap/intel-rapl:<package>[:<part>]/{name, energy_uj, max_energy_range_uj}.
 */
import { join } from 'node:path';
import { namesIn, optional, readInteger, readText, reasonOf } from '../sysfs.js';
import { poll, type PolledRail, readRails } from './poll.js';
import type { Probed } from './source.js';

/**
 * Looks for RAPL. The total is the packages and their memory (`dram` is beside its package, not in it); `core` and `uncore` are parts
 * of a package, and `psys` is a platform's own count of all of it: rails of their own, not added.
 */
export async function probeRapl(root: string): Promise<Probed> {
  const powercap = join(root, 'sys/class/powercap');
  const problems: string[] = [];
  const rails: PolledRail[] = [];
  const parts: string[] = [];
  // intel-rapl-mmio:0 is intel-rapl:0 by another road.
  for (const zone of namesIn(powercap).filter((name) => /^intel-rapl:\d+(:\d+)?$/.test(name))) {
    const folder = join(powercap, zone);
    const label = optional(() => readText(join(folder, 'name')));
    if (label === undefined) continue;
    const [, at, part] = zone.split(':');
    const name = part === undefined ? label : `${label}-${at}`;
    const counted = /^(package|dram)/.test(label);
    if (counted) parts.push(name);
    try {
      rails.push({ name, read: unwrapped(folder) });
    } catch (thrown) {
      problems.push(`rail ${name} (${join(folder, 'energy_uj')}) is left out: ${reasonOf(thrown)}`);
    }
  }
  if (rails.length === 0) return { absent: [`${powercap}: no RAPL counter`, ...problems].join('; ') };
  const whole = parts.length > 0 && parts.every((part) => rails.some(({ name }) => name === part));
  if (!whole) problems.push(`no total: it is ${parts.join(' + ') || 'the packages'}, and not all of them can be read`);
  return {
    source: {
      unit: 'joules',
      rails: rails.map(({ name }) => name),
      total: whole ? parts : undefined,
      problems,
      // A read takes some ten microseconds.
      start: (hz, sink) => ({ ...poll(rails, hz, sink), read: () => sink(readRails(rails)) }),
    },
  };
}

/** Joules since now by a counter of microjoules that begins anew beyond its range (minutes at full load). */
function unwrapped(folder: string): () => number {
  const file = join(folder, 'energy_uj');
  const range = readInteger(join(folder, 'max_energy_range_uj'));
  let last = readInteger(file);
  let total = 0;
  return () => {
    const now = readInteger(file);
    total += now >= last ? now - last : now + range - last;
    last = now;
    return total / 1e6;
  };
}
