import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { GATE_KINDS, isPerSample } from '../models/gates.js';
import { createRuntime } from '../runtime/runtime.js';
import type { EstimatorKind } from './estimators.js';
import type { Loss } from './losses.js';
import { scoreCheckpoint } from './score.js';
import { assertUnbiased, relative } from './testing/assertions.js';
import { goldenNames, openGolden, skipGolden } from './testing/golden.js';

const root = await mkdtemp(join(tmpdir(), 'heartwood-golden-'));
const runtime = createRuntime({ workers: 1, threads: 1 });
const context = { runtime, workDirectory: root };
after(async () => {
  await runtime.close();
  await rm(root, { recursive: true, force: true });
});

describe('exact scores against second derivatives of PyTorch', { skip: skipGolden }, () => {
  for (const name of goldenNames) {
    for (const loss of ['kl', 'cross-entropy'] as Loss[]) {
      test(`${name}, ${loss}: gradients, diagonals and full Hessians within 1e-3`, async () => {
        const { numbers, ...golden } = await openGolden(name);
        const scores = await scoreCheckpoint(
          { ...golden, units: GATE_KINDS, loss, estimator: 'exact', interactions: true, batch: 2 },
          context,
        );
        for (const kind of GATE_KINDS) {
          const unit = scores.units[kind]!;
          const gradient = await numbers(`${kind}.gradient`);
          if (loss === 'kl') assert.ok(unit.gradient.every((value) => value === 0));
          else assert.ok(relative(unit.gradient, gradient) < 1e-3, `${kind}: gradient`);
          const hessian = await numbers(`${kind}.${loss === 'kl' ? 'kl_hessian' : 'hessian'}`);
          const gates = isPerSample(kind) ? gradient.length / golden.indices.length : gradient.length;
          const diagonal = unit.curvature.map((_, at) => {
            const [row, i] = [Math.floor(at / gates), at % gates];
            return hessian[row * gates * gates + i * gates + i]!;
          });
          const error = relative(unit.curvature, diagonal);
          assert.ok(error < 1e-3, `${kind}: diagonal is off by ${error}`);
          assert.equal(unit.standardError, undefined);
          if (gates * gates === hessian.length) {
            assert.ok(relative(unit.interactions!.flat(), hessian) < 1e-3, `${kind}: interactions`);
          } else assert.equal(unit.interactions, undefined);
        }
      });
    }
    test(`${name}: the output sketch of KL has no bias over 32 seeds`, async () => {
      const golden = await openGolden(name);
      const score = (estimator: EstimatorKind, seed: number) =>
        scoreCheckpoint({ ...golden, units: GATE_KINDS, estimator, probes: 8, seed }, context);
      const exact = await score('exact', 0);
      const runs = [];
      for (let seed = 0; seed < 32; seed++) runs.push(await score('output-sketch', seed));
      for (const kind of GATE_KINDS) {
        const estimates = runs.map(({ units }) => ({
          curvature: units[kind]!.curvature,
          standardError: units[kind]!.standardError!,
        }));
        assertUnbiased(estimates, exact.units[kind]!.curvature, kind);
      }
    });
  }
});
