import { probeIna3221 } from './ina3221.js';
import { probeNvidiaSmi } from './nvidia-smi.js';
import { probeRapl } from './rapl.js';
import type { MeterSource, Probe } from './source.js';

/** The meters that are known, in the order in which `auto` tries them: a new one is a file and a line here. */
const probes = { ina3221: probeIna3221, rapl: probeRapl, 'nvidia-smi': probeNvidiaSmi } satisfies Record<string, Probe>;

export type MeterName = keyof typeof probes;
export const meterNames = Object.keys(probes) as MeterName[];

/** Which meter: the first that is found, none, or one by name. */
export type MeterChoice = 'auto' | 'none' | MeterName;
export const meterChoices: readonly MeterChoice[] = ['auto', 'none', ...meterNames];

/** The meter of this choice, or why there is none. */
export async function findMeter(
  choice: MeterChoice,
  root: string,
): Promise<{ name: MeterName; source: MeterSource } | { absent: readonly string[] }> {
  const absent: string[] = [];
  for (const name of meterNames) {
    if (choice !== 'auto' && choice !== name) continue;
    const probed = await probes[name](root);
    if ('source' in probed) return { name, source: probed.source };
    absent.push(probed.absent);
  }
  return { absent };
}
