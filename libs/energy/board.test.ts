import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { readBoard } from './board.js';
import { agxOrin, type Board, orinNano, orinNx, put, x86Host } from './testing/boards.js';

const rootOf = (context: TestContext, board: Pick<Board, 'root'>): string => {
  context.after(() => rmSync(board.root, { recursive: true, force: true }));
  return board.root;
};

for (const jetpack of [5, 6] as const) {
  test(`a Jetson of JetPack ${jetpack} tells clocks, load, temperatures and power mode`, async (context) => {
    assert.deepEqual(await readBoard(rootOf(context, agxOrin(jetpack))), {
      clocks: {
        gpu: { hertz: 612e6, limit: 918e6 },
        cpu0: { hertz: 1.728e9, limit: 2.2016e9 },
        cpu4: { hertz: 1.728e9, limit: 2.2016e9 },
        cpu8: { hertz: 1.728e9, limit: 2.2016e9 },
      },
      gpuLoad: 0.437,
      // The zone that cannot be read is not there.
      temperatures: { cpu: 48, gpu: 48.5, tj: 49.5 },
      powerMode: { id: 2, name: 'MODE_30W' },
    });
    assert.deepEqual((await readBoard(rootOf(context, orinNx(jetpack)))).powerMode, { id: 3, name: '25W' });
    assert.deepEqual((await readBoard(rootOf(context, orinNano(jetpack)))).powerMode, { id: 0, name: '15W' });
  });
}

test('an x86 host tells the clocks of its cores and its zones, by number where they share a type', async (context) => {
  assert.deepEqual(await readBoard(rootOf(context, x86Host())), {
    clocks: { cpu0: { hertz: 2.4e9, limit: 3.8e9 }, cpu1: { hertz: 2.4e9, limit: 3.8e9 } },
    temperatures: { 'acpitz-0': 40, 'acpitz-1': 41, x86_pkg_temp: 42 },
  });
});

test('a mode that the catalogue lacks has its number only, and a machine that tells nothing nothing', async (context) => {
  const root = rootOf(context, { root: mkdtempSync(join(tmpdir(), 'heartwood-board-')) });
  assert.deepEqual(await readBoard(root), { clocks: {}, temperatures: {} });
  put(root, 'var/lib/nvpmodel/status', 'pmode:0007');
  put(root, 'etc/nvpmodel.conf', '< POWER_MODEL ID=70 NAME=OTHER >');
  assert.deepEqual((await readBoard(root)).powerMode, { id: 7 });
});
