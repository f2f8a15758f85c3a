/** File trees laid out as the kernels of real machines lay them out, for the tests of meters and of what uses them. */
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { Curve } from './curve.js';

/** A rail of an INA3221: its channel's files and the supply's millivolts. */
export interface PowerRail {
  readonly label: string;
  readonly folder: string;
  readonly channel: number;
  readonly millivolts: number;
  readonly curve: Curve;
}

/** A RAPL zone: its counter of microjoules, where that starts, and where it begins anew. */
export interface CounterRail {
  readonly label: string;
  readonly folder: string;
  readonly start: number;
  readonly range: number;
  readonly curve: Curve;
}

export interface Board {
  /** The folder that stands for `/`. */
  readonly root: string;
  readonly powers: readonly PowerRail[];
  readonly counters: readonly CounterRail[];
}

export type JetPack = 5 | 6;

/** What a Jetson's file tree is made of. */
interface Jetson {
  readonly jetpack: JetPack;
  /** Monitors by address; a rail is a label, millivolts and a curve; null: not connected. */
  readonly monitors: Readonly<Record<string, readonly (readonly [string, number, Curve] | null)[]>>;
  readonly clusters: readonly number[];
  readonly mode: { readonly id: number; readonly catalogue: readonly string[] };
}

/** Writes one file, and the folders above it. */
export function put(root: string, path: string, content: string | number): void {
  const file = join(root, path);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, `${content}\n`);
}

const newRoot = (): string => mkdtempSync(join(tmpdir(), 'heartwood-board-'));

const wave = (mean: number, swing: number, periodMs: number, phase: number): Curve => ({
  mean,
  swing,
  periodMs,
  phase,
});

/** Two monitors; the second's VDDQ_VDD2_1V8AO is fed from VIN_SYS_5V0. */
export function agxOrin(jetpack: JetPack): Board {
  return jetson({
    jetpack,
    monitors: {
      '0040': [
        ['VDD_GPU_SOC', 19_040, wave(12, 6, 2100, 0)],
        ['VDD_CPU_CV', 19_016, wave(5, 2, 1350, 1)],
        ['VIN_SYS_5V0', 5_032, wave(6, 1, 2700, 2)],
      ],
      '0041': [null, ['VDDQ_VDD2_1V8AO', 5_024, wave(2, 0.5, 1800, 3)], null],
    },
    clusters: [0, 4, 8],
    mode: { id: 2, catalogue: ['MAXN', 'MODE_15W', 'MODE_30W', 'MODE_50W'] },
  });
}

const module = (power: number) => ({
  '0040': [
    ['VDD_IN', 5_056, wave(power, power / 2, 2400, 0)],
    ['VDD_CPU_GPU_CV', 5_048, wave(power / 3, power / 6, 1950, 1)],
    ['VDD_SOC', 5_040, wave(power / 5, power / 20, 1500, 2)],
  ] as const,
});

export const orinNx = (jetpack: JetPack): Board =>
  jetson({
    jetpack,
    monitors: module(14),
    clusters: [0, 4],
    mode: { id: 3, catalogue: ['MAXN', '10W', '15W', '25W'] },
  });

export const orinNano = (jetpack: JetPack): Board =>
  jetson({ jetpack, monitors: module(7), clusters: [0, 4], mode: { id: 0, catalogue: ['15W', '7W'] } });

function jetson({ jetpack, monitors, clusters, mode }: Jetson): Board {
  const root = newRoot();
  const powers: PowerRail[] = [];
  Object.entries(monitors).forEach(([address, rails], at) => {
    const device = `sys/bus/i2c/drivers/ina3221/1-${address}`;
    const hwmon = `${device}/hwmon/hwmon${jetpack === 6 ? at + 1 : at + 3}`;
    put(root, `${device}/name`, 'ina3221');
    put(root, `${hwmon}/name`, 'ina3221');
    put(root, `${hwmon}/update_interval`, 16);
    put(root, `${hwmon}/in7_label`, 'sum of shunt voltages');
    put(root, `${hwmon}/in7_input`, 999_999);
    rails.forEach((rail, index) => {
      const channel = index + 1;
      put(root, `${hwmon}/in${channel}_label`, rail?.[0] ?? 'NC');
      put(root, `${hwmon}/in${channel}_enable`, rail ? 1 : 0);
      put(root, `${hwmon}/in${channel + 3}_input`, 120);
      if (!rail) return;
      const [label, millivolts, curve] = rail;
      put(root, `${hwmon}/in${channel}_input`, millivolts);
      put(root, `${hwmon}/curr${channel}_input`, '00000');
      put(root, `${hwmon}/curr${channel}_max`, 32_760);
      powers.push({ label, folder: join(root, hwmon), channel, millivolts, curve });
    });
  });
  // The driver's own files beside the devices.
  for (const file of ['bind', 'uevent', 'unbind']) put(root, `sys/bus/i2c/drivers/ina3221/${file}`, '');
  const gpu = jetpack === 6 ? '17000000.gpu' : '17000000.ga10b';
  put(root, `sys/class/devfreq/${gpu}/cur_freq`, 612_000_000);
  put(root, `sys/class/devfreq/${gpu}/min_freq`, 306_000_000);
  put(root, `sys/class/devfreq/${gpu}/max_freq`, 918_000_000);
  put(root, jetpack === 6 ? `sys/devices/platform/bus@0/${gpu}/load` : `sys/devices/${gpu}/load`, 437);
  clocks(root, clusters, 1_728_000, 2_201_600);
  ['cpu-thermal', 'gpu-thermal', 'cv0-thermal', 'tj-thermal'].forEach((type, zone) => {
    put(root, `sys/class/thermal/thermal_zone${zone}/type`, type);
    // The sensor of the computer-vision cores, which are powered down, cannot be read.
    if (type === 'cv0-thermal') mkdirSync(join(root, `sys/class/thermal/thermal_zone${zone}/temp`));
    else put(root, `sys/class/thermal/thermal_zone${zone}/temp`, 48_000 + 500 * zone);
  });
  put(root, 'var/lib/nvpmodel/status', `pmode:${String(mode.id).padStart(4, '0')}`);
  const catalogue = mode.catalogue.map((name, id) => `< POWER_MODEL ID=${id} NAME=${name} >\nCPU_ONLINE CORE_0 1\n`);
  put(root, 'etc/nvpmodel.conf', `# modes\n< PARAM TYPE=FILE NAME=CPU_ONLINE >\n\n${catalogue.join('\n')}`);
  return { root, powers, counters: [] };
}

/** Two packages, their parts, their memory, and the roads to the first package that must not be counted again. */
export function x86Host(): Board {
  const root = newRoot();
  const powercap = 'sys/class/powercap';
  const counters: CounterRail[] = [];
  const zone = (name: string, label: string, curve: Curve, range = 262_143_328_850, start = 1_000_000) => {
    put(root, `${powercap}/${name}/name`, label);
    put(root, `${powercap}/${name}/max_energy_range_uj`, range);
    put(root, `${powercap}/${name}/energy_uj`, String(start).padStart(12, '0'));
    counters.push({ label, folder: join(root, powercap, name), start, range, curve });
  };
  put(root, `${powercap}/intel-rapl/enabled`, 1);
  // It begins anew twice a second.
  zone('intel-rapl:0', 'package-0', wave(40, 20, 2100, 0), 20_000_000);
  zone('intel-rapl:0:0', 'core', wave(30, 15, 2100, 0));
  zone('intel-rapl:0:1', 'dram', wave(4, 1, 1500, 1));
  zone('intel-rapl:1', 'package-1', wave(35, 10, 2700, 2));
  zone('intel-rapl:2', 'psys', wave(120, 20, 2400, 0));
  zone('intel-rapl-mmio:0', 'package-0', wave(40, 20, 2100, 0));
  clocks(root, [0, 1], 2_400_000, 3_800_000);
  ['acpitz', 'acpitz', 'x86_pkg_temp'].forEach((type, index) => {
    put(root, `sys/class/thermal/thermal_zone${index}/type`, type);
    put(root, `sys/class/thermal/thermal_zone${index}/temp`, 40_000 + 1000 * index);
  });
  return { root, powers: [], counters };
}

function clocks(root: string, policies: readonly number[], current: number, limit: number): void {
  for (const first of policies) {
    const policy = `sys/devices/system/cpu/cpufreq/policy${first}`;
    put(root, `${policy}/scaling_cur_freq`, current);
    put(root, `${policy}/scaling_max_freq`, limit);
  }
}
