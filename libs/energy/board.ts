/**
 * What a board tells of itself beside its power: clocks, load, temperatures, power mode. Jetson's paths (JetPack 5 and 6) and those of any
 * Linux; what cannot be read is absent.
 */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

export interface Clock {
  readonly hertz: number;
  /** The most that the governor may choose now; a power mode or heat lowers it. */
  readonly limit?: number;
}

export interface BoardState {
  /** By device: `gpu`, and `cpu0`, `cpu4`, … for the cores that change clocks together, by the first of them. */
  readonly clocks: Readonly<Record<string, Clock>>;
  /** Of the GPU, 0 to 1. */
  readonly gpuLoad?: number;
  /** °C by zone. */
  readonly temperatures: Readonly<Record<string, number>>;
  /** Of nvpmodel: its number, and its name where the catalogue has one. */
  readonly powerMode?: { readonly id: number; readonly name?: string };
}

/** Reads it all, off the event loop. `root` is where `/sys` is. Does not throw. */
export async function readBoard(root = '/'): Promise<BoardState> {
  const [cpus, gpu, temperatures, powerMode] = await Promise.all([
    cpuClocks(root),
    jetsonGpu(root),
    readTemperatures(root),
    readPowerMode(root),
  ]);
  return {
    clocks: { ...(gpu.clock ? { gpu: gpu.clock } : {}), ...cpus },
    ...(gpu.load === undefined ? {} : { gpuLoad: gpu.load }),
    temperatures,
    ...(powerMode ? { powerMode } : {}),
  };
}

/** <root>/sys/devices/system/cpu/cpufreq/policy<first core>/scaling_{cur,max}_freq, kHz. */
async function cpuClocks(root: string): Promise<Record<string, Clock>> {
  const folder = join(root, 'sys/devices/system/cpu/cpufreq');
  const policies = (await namesOf(folder)).filter((name) => /^policy\d+$/.test(name));
  const clocks = await Promise.all(
    policies.map(async (policy): Promise<[string, Clock | undefined]> => {
      const [current, limit] = await Promise.all(
        ['cur', 'max'].map((kind) => integer(join(folder, policy, `scaling_${kind}_freq`))),
      );
      return [policy.replace('policy', 'cpu'), clockOf(current, limit, 1000)];
    }),
  );
  return Object.fromEntries(clocks.filter((entry): entry is [string, Clock] => entry[1] !== undefined));
}

/** The integrated GPU: /sys/class/devfreq/17000000.gpu (JetPack 6) or 17000000.ga10b (JetPack 5), Hz; its load in 1/1000. */
async function jetsonGpu(root: string): Promise<{ clock?: Clock; load?: number }> {
  const devfreq = join(root, 'sys/class/devfreq');
  const name = (await namesOf(devfreq)).find((each) => /\.(gpu|ga10b|gv11b|gp10b)$/.test(each));
  if (name === undefined) return {};
  const [current, limit] = await Promise.all(
    ['cur', 'max'].map((kind) => integer(join(devfreq, name, `${kind}_freq`))),
  );
  const clock = clockOf(current, limit, 1);
  const places = [
    join(devfreq, name, 'device/load'),
    ...['sys/devices/platform/bus@0', 'sys/devices/platform', 'sys/devices'].map((at) => join(root, at, name, 'load')),
  ];
  for (const place of places) {
    const load = await integer(place);
    if (load !== undefined) return { ...(clock ? { clock } : {}), load: load / 1000 };
  }
  return clock ? { clock } : {};
}

const clockOf = (current: number | undefined, limit: number | undefined, unit: number): Clock | undefined =>
  current === undefined
    ? undefined
    : { hertz: current * unit, ...(limit === undefined ? {} : { limit: limit * unit }) };

/** /sys/class/thermal/thermal_zone<n>/{type, temp}, m°C. The sensor of a part that is powered down answers EAGAIN: it is absent. */
async function readTemperatures(root: string): Promise<Record<string, number>> {
  const folder = join(root, 'sys/class/thermal');
  const zones = (await namesOf(folder)).filter((name) => /^thermal_zone\d+$/.test(name));
  const read = await Promise.all(
    zones.map(async (zone) => {
      const [type, temperature] = await Promise.all([
        text(join(folder, zone, 'type')),
        integer(join(folder, zone, 'temp')),
      ]);
      return { name: type?.replace(/-thermal$/, '') || zone, temperature };
    }),
  );
  const temperatures: Record<string, number> = {};
  for (const [at, { name, temperature }] of read.entries()) {
    if (temperature === undefined) continue;
    // Zones of one type (acpitz) are told apart by their numbers.
    const alone = read.every((other, index) => index === at || other.name !== name);
    temperatures[alone ? name : `${name}-${zones[at]!.slice('thermal_zone'.length)}`] = temperature / 1000;
  }
  return temperatures;
}

/** /var/lib/nvpmodel/status says `pmode:0002`; /etc/nvpmodel.conf has `< POWER_MODEL ID=2 NAME=MODE_30W >`. */
async function readPowerMode(root: string): Promise<BoardState['powerMode']> {
  const digits = /pmode:(\d+)/.exec((await text(join(root, 'var/lib/nvpmodel/status'))) ?? '')?.[1];
  if (digits === undefined) return undefined;
  const id = Number(digits);
  const catalogue = (await text(join(root, 'etc/nvpmodel.conf'))) ?? '';
  for (const [, mode, name] of catalogue.matchAll(/^\s*<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=([^\s>]+)/gm))
    if (Number(mode) === id) return { id, name: name! };
  return { id };
}

async function text(file: string): Promise<string | undefined> {
  return readFile(file, 'utf8').then(
    (content) => content.trim(),
    () => undefined,
  );
}

async function integer(file: string): Promise<number | undefined> {
  const content = await text(file);
  return content !== undefined && /^-?\d+$/.test(content) ? Number(content) : undefined;
}

/** Sorted as people count. */
async function namesOf(folder: string): Promise<string[]> {
  const names = await readdir(folder).catch((): string[] => []);
  return names.sort((a, b) => a.localeCompare(b, 'en', { numeric: true }));
}
