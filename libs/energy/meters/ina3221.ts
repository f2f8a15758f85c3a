/**
 * INA3221 power monitors as Jetson modules have them, by the kernel's hwmon driver (JetPack 5 and 6):
 * <root>/sys/bus/i2c/drivers/ina3221/<bus>-00<address>/hwmon/hwmon<N>/{in<n>_label, in<n>_input (mV), curr<n>_input (mA)}.
 */
import { join } from 'node:path';
import { namesIn, optional, readInteger, readText, reasonOf } from '../sysfs.js';
import { poll, type PolledRail } from './poll.js';
import type { MeterSource, Probed } from './source.js';

/**
 * The rails that add up to what a module takes, by the labels of its boards. The others are parts of these: on AGX Orin VDDQ_VDD2_1V8AO
 * (a second monitor) is fed from VIN_SYS_5V0, and adding it would count it twice; on Orin NX and Nano all is behind VDD_IN.
 */
const totals: readonly (readonly string[])[] = [['VDD_IN'], ['VDD_GPU_SOC', 'VDD_CPU_CV', 'VIN_SYS_5V0']];

/** The chip has three channels; what the driver calls in4 to in6 are shunt voltages, and in7 is their sum. */
const channels = [1, 2, 3];

/** Looks for the monitors of a Jetson. */
export async function probeIna3221(root: string): Promise<Probed> {
  const driver = join(root, 'sys/bus/i2c/drivers/ina3221');
  const monitors = namesIn(driver)
    .filter((name) => /^\d+-[\da-f]{4}$/.test(name))
    .flatMap((name) => {
      const hwmon = join(driver, name, 'hwmon');
      // Its number is another on every boot.
      return namesIn(hwmon)
        .filter((each) => /^hwmon\d+$/.test(each))
        .map((each) => join(hwmon, each));
    });
  if (monitors.length === 0) return { absent: `${driver}: no monitor` };
  const labels: string[] = [];
  const rails: PolledRail[] = [];
  const problems: string[] = [];
  for (const folder of monitors) {
    for (const channel of channels) {
      const label = optional(() => readText(join(folder, `in${channel}_label`)));
      // A channel without a name, or named NC, leads nowhere.
      if (label === undefined || label === '' || label === 'NC') continue;
      labels.push(label);
      const rail = { name: label, read: () => watts(folder, channel) };
      try {
        rail.read();
        rails.push(rail);
      } catch (thrown) {
        problems.push(`rail ${label} (${folder}, channel ${channel}) is left out: ${reasonOf(thrown)}`);
      }
    }
  }
  if (rails.length === 0) return { absent: [`${driver}: no channel can be read`, ...problems].join('; ') };
  const expected = totals.find((parts) => parts.every((part) => labels.includes(part)));
  const readable = expected?.every((part) => rails.some(({ name }) => name === part));
  if (expected === undefined)
    problems.push(`no total: a board with the rails ${labels.join(', ')} is not known, so which add up is not either`);
  else if (!readable) problems.push(`no total: it is ${expected.join(' + ')}, and not all of them can be read`);
  const source: MeterSource = {
    unit: 'watts',
    rails: rails.map(({ name }) => name),
    total: readable ? expected : undefined,
    problems,
    start: (hz, sink) => poll(rails, hz, sink),
  };
  return { source };
}

/** mV · mA = µW. */
const watts = (folder: string, channel: number): number =>
  (readInteger(join(folder, `in${channel}_input`)) * readInteger(join(folder, `curr${channel}_input`))) / 1e6;
