import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { probeNvidiaSmi } from './nvidia-smi.js';
import type { MeterSource, Reading } from './source.js';

/** A root with a program that answers as nvidia-smi does: `lines` once, or in rounds of which the process makes `rounds`. */
function rootWith(context: TestContext, lines: string, options: { old?: boolean; rounds?: number } = {}): string {
  const root = mkdtempSync(join(tmpdir(), 'heartwood-nvidia-'));
  context.after(() => rmSync(root, { recursive: true }));
  mkdirSync(join(root, 'usr/bin'), { recursive: true });
  const program = join(root, 'usr/bin/nvidia-smi');
  const refuse = `case "$*" in *power.draw.instant*) echo 'Field "power.draw.instant" is not a valid field to query.'; exit 2;; esac`;
  writeFileSync(
    program,
    `#!/bin/sh
${options.old ? refuse : ''}
case "$*" in *csv,noheader,nounits*) ;; *) exit 3;; esac
rounds=1
case "$*" in *--loop-ms=10*) rounds=${options.rounds ?? 1000};; esac
while [ $rounds -gt 0 ]; do
  printf '${lines}'
  rounds=$((rounds - 1))
  [ $rounds -eq 0 ] || sleep 0.01
done
`,
  );
  chmodSync(program, 0o755);
  return root;
}

async function found(root: string): Promise<MeterSource> {
  const probed = await probeNvidiaSmi(root);
  assert.ok('source' in probed, JSON.stringify(probed));
  return probed.source;
}

/** Reads until `done` says so of all that came. */
function readings(source: MeterSource, done: (all: readonly Reading[]) => boolean): Promise<Reading[]> {
  return new Promise((resolve) => {
    const all: Reading[] = [];
    const sampling = source.start(100, (reading) => {
      all.push(reading);
      if (!done(all)) return;
      sampling.stop();
      resolve(all);
    });
  });
}

for (const old of [false, true]) {
  test(`every GPU that tells its power is a rail, ${old ? 'by the field of older drivers' : 'of this moment'}`, async (context) => {
    const source = await found(rootWith(context, '0, 65.32\\n1, [N/A]\\n2, 70\\n', { old }));
    assert.deepEqual([source.rails, source.total, source.unit], [['gpu0', 'gpu2'], ['gpu0', 'gpu2'], 'watts']);
    assert.match(source.problems.join(), /^rail gpu1 is left out/);
    const all = await readings(source, ({ length }) => length === 3);
    for (const { values, failures } of all) assert.deepEqual([values, failures], [{ gpu0: 65.32, gpu2: 70 }, {}]);
    assert.ok(all[0]!.time < all[2]!.time);
  });
}

test('a program that ends is a failure of its rails, and is started again', async (context) => {
  const source = await found(rootWith(context, '0, 30.5\\n', { rounds: 1 }));
  const all = await readings(source, ({ length }) => length === 3);
  assert.deepEqual(
    all.map(({ values, failures }) => [values, failures]),
    [
      [{ gpu0: 30.5 }, {}],
      [{}, { gpu0: 'nvidia-smi exited with 0' }],
      [{ gpu0: 30.5 }, {}],
    ],
  );
});

test('no meter where the program is not, or tells no power', async (context) => {
  const root = mkdtempSync(join(tmpdir(), 'heartwood-nvidia-'));
  context.after(() => rmSync(root, { recursive: true }));
  assert.match(JSON.stringify(await probeNvidiaSmi(root)), /no such program/);
  const silent = await probeNvidiaSmi(rootWith(context, '0, [N/A]\\n'));
  assert.match(JSON.stringify(silent), /absent.*it says .*\[N\/A\]/);
});
