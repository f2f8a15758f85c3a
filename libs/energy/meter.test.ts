import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { openEnergyMeter } from './meter.js';

describe('RAPL', () => {
  it('adds up the packages, not their parts, over a counter that wraps', (context) => {
    const folder = mkdtempSync(join(tmpdir(), 'heartwood-energy-'));
    context.after(() => rmSync(folder, { recursive: true }));
    const zone = (name: string, label: string, energy: number) => {
      mkdirSync(join(folder, name));
      writeFileSync(join(folder, name, 'name'), `${label}\n`);
      writeFileSync(join(folder, name, 'energy_uj'), `${energy}\n`);
      writeFileSync(join(folder, name, 'max_energy_range_uj'), '10000000\n');
    };
    zone('intel-rapl:0', 'package-0', 9_000_000);
    zone('intel-rapl:1', 'package-1', 500);
    zone('intel-rapl:2', 'psys', 77);
    zone('intel-rapl:0:0', 'core', 3);
    const meter = openEnergyMeter(folder)!;
    assert.equal(meter.joules(), 0);
    writeFileSync(join(folder, 'intel-rapl:0', 'energy_uj'), '9500000\n');
    writeFileSync(join(folder, 'intel-rapl:2', 'energy_uj'), '9500000\n');
    assert.equal(meter.joules(), 0.5);
    writeFileSync(join(folder, 'intel-rapl:0', 'energy_uj'), '1500000\n');
    writeFileSync(join(folder, 'intel-rapl:1', 'energy_uj'), '1000500\n');
    assert.equal(meter.joules(), 0.5 + 2 + 1);
  });

  it('is no meter where nothing can be read', () => {
    assert.equal(openEnergyMeter(join(tmpdir(), 'no-such-folder')), undefined);
  });
});
