import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import type { Dataset } from '../data/dataset.js';
import { openCheckpoint } from '../models/checkpoint.js';
import { GATE_KINDS } from '../models/gates.js';
import { readSafetensors, readTensor } from '../models/safetensors.js';
import { createRuntime } from '../runtime/runtime.js';
import type { EstimatorKind } from './estimators.js';
import type { Loss } from './losses.js';
import { scoreCheckpoint } from './score.js';
import { assertUnbiased, relative } from './testing/assertions.js';
import { tensorDataset } from './testing/tensor-dataset.js';

const root = await mkdtemp(join(tmpdir(), 'heartwood-golden-'));
const runtime = createRuntime({ workers: 1, threads: 1 });
after(async () => {
  await runtime.close();
  await rm(root, { recursive: true, force: true });
});

const golden = join(process.cwd(), '..', 'shared', 'golden');
const skip = existsSync(golden) ? false : 'no ../shared/golden with references from PyTorch';

describe('exact scores against second derivatives of PyTorch', { skip }, () => {
  for (const name of ['vit', 'deit-distilled']) {
    for (const loss of ['kl', 'cross-entropy'] as Loss[]) {
      test(`${name}, ${loss}: gradients, diagonals and full Hessians within 1e-3`, async () => {
        const checkpoint = await openCheckpoint(join(golden, name));
        const { tensors } = await readSafetensors(join(golden, name, 'reference.safetensors'));
        const reference = (key: string) => readTensor(tensors.get(key)!);
        const { labels } = JSON.parse(await readFile(join(golden, 'labels.json'), 'utf8')) as { labels: number[] };
        const dataset: Dataset = tensorDataset(await reference('pixel_values'), labels);
        const scores = await scoreCheckpoint(
          {
            checkpoint,
            dataset,
            indices: [0, 1, 2],
            units: GATE_KINDS,
            loss,
            estimator: 'exact',
            interactions: true,
            batch: 2,
          },
          { runtime, workDirectory: root },
        );
        for (const kind of GATE_KINDS) {
          const unit = scores.units[kind]!;
          const gradient = await reference(`${kind}.gradient`);
          if (loss === 'kl') assert.ok(unit.gradient.every((value) => value === 0));
          else assert.ok(relative(unit.gradient, gradient) < 1e-3, `${kind}: gradient`);
          const hessian = await reference(`${kind}.${loss === 'kl' ? 'kl_hessian' : 'hessian'}`);
          const gates = kind === 'tokens' || kind === 'masks' ? gradient.length / 3 : gradient.length;
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
      const checkpoint = await openCheckpoint(join(golden, name));
      const { tensors } = await readSafetensors(join(golden, name, 'reference.safetensors'));
      const dataset = tensorDataset(await readTensor(tensors.get('pixel_values')!), [0, 0, 0]);
      const score = (estimator: EstimatorKind, seed: number) =>
        scoreCheckpoint(
          { checkpoint, dataset, indices: [0, 1, 2], units: GATE_KINDS, estimator, probes: 8, seed },
          { runtime, workDirectory: root },
        );
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
