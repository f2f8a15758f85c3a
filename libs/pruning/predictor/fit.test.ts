import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { randomFor, type RandomGenerator } from '../../data/random.js';
import type { HeartwoodError } from '../../errors/error.js';
import { createRuntime } from '../../runtime/runtime.js';
import { fitProbe, type FitOptions, type ProbeSamples } from './fit.js';
import { applyProbe, normaliseRows } from './probe.js';
import { prepareSamples } from './samples.js';

const runtime = createRuntime({ workers: 1, threads: 2 });
after(() => runtime.close());

const uniform = (random: RandomGenerator): number => ((random.next() >>> 0) + 0.5) / 2 ** 32;
const normal = (random: RandomGenerator): number =>
  Math.sqrt(-2 * Math.log(uniform(random))) * Math.cos(2 * Math.PI * uniform(random));

/** Tokens at random, a target that `score` makes of the normalised token, class token and mean token. */
function makeSamples(
  images: number,
  perImage: number,
  D: number,
  seed: number,
  score: (z: Float32Array, cls: Float32Array, mean: Float32Array, random: RandomGenerator) => number,
): ProbeSamples {
  const random = randomFor(seed);
  // Features of very different means and deviations, as residual streams have.
  const tokens = Float32Array.from({ length: images * perImage * D }, (_, at) => {
    const k = at % D;
    return (k % 5) - 2 + (0.2 + (k % 3)) * normal(random);
  });
  const z = normaliseRows(tokens, D);
  const cls = normaliseRows(
    Float32Array.from({ length: images * D }, (_, at) => 3 * (at % 2) + normal(random)),
    D,
  );
  const mean = new Float32Array(images * D);
  const image = Int32Array.from({ length: images * perImage }, (_, row) => Math.floor(row / perImage));
  image.forEach((own, row) => {
    for (let k = 0; k < D; k++) mean[own * D + k]! += z[row * D + k]! / perImage;
  });
  const row = (array: Float32Array, at: number) => array.subarray(at * D, (at + 1) * D);
  const target = Float32Array.from(image, (own, at) => score(row(z, at), row(cls, own), row(mean, own), random));
  return { hidden: D, tokens, cls, mean, image, target };
}

const planted = makeSamples(150, 24, 16, 5, (z, cls, mean) => {
  const u = z[0]! + 0.5 * z[3]! - z[7]! + cls[2]! + 2 * mean[4]!;
  return Math.exp(1.5 * Math.max(0, u) + 0.5 * z[5]! - 7);
});
const options: FitOptions = { seed: 3, epochs: 60, dropout: 0, rate: 1e-2 };
const fitted = await fitProbe(runtime, planted, options);

test('a planted function of token, class token and mean is recovered on images that it was not fitted to', () => {
  assert.ok(fitted.r2 > 0.9, `R² ${fitted.r2}`);
  assert.ok(fitted.rankCorrelation > 0.95, `rank correlation ${fitted.rankCorrelation}`);
  assert.equal(fitted.losses.length, 60);
  assert.ok(
    fitted.losses.at(-1)! < 0.1 && fitted.losses[0]! > 0.3,
    `losses ${fitted.losses[0]} … ${fitted.losses.at(-1)}`,
  );
});

test('the reported R² is that of the folded probe, applied to features as they come, on the images held out', () => {
  const { heldOut, fit } = prepareSamples(planted, 'log', 0.15, options.seed);
  assert.equal(heldOut.length, Math.round(0.15 * 150));
  assert.equal(new Set([...heldOut, ...fit]).size, 150);
  const predicted = applyProbe(
    fitted.probe,
    normaliseRows(planted.tokens, 16),
    planted.cls,
    planted.mean,
    planted.image,
  );
  const r2Of = (images: readonly number[]): number => {
    const chosen = new Set(images);
    const rows = [...planted.image.keys()].filter((row) => chosen.has(planted.image[row]!));
    const truth = rows.map((row) => Math.log(planted.target[row]!));
    const mean = truth.reduce((a, b) => a + b, 0) / truth.length;
    const total = truth.reduce((sum, value) => sum + (value - mean) ** 2, 0);
    return 1 - rows.reduce((sum, row, i) => sum + (truth[i]! - predicted[row]!) ** 2, 0) / total;
  };
  assert.ok(Math.abs(r2Of(heldOut) - fitted.r2) < 1e-6, `${r2Of(heldOut)}, reported ${fitted.r2}`);
  // The last loss, in variances of the target, was seen from inside the graph, where features and target are standardised:
  // what it says must be what the folded probe does. It is a mean over the last epoch, whose rates are next to zero.
  assert.ok(
    Math.abs(1 - r2Of(fit) - fitted.losses.at(-1)!) < 2e-3,
    `${1 - r2Of(fit)}, in the graph ${fitted.losses.at(-1)}`,
  );
});

test('the same seed gives the same bits, another seed another probe', async () => {
  const short: FitOptions = { seed: 9, epochs: 2 };
  const [once, again, other] = [
    await fitProbe(runtime, planted, short),
    await fitProbe(runtime, planted, short),
    await fitProbe(runtime, planted, { ...short, seed: 10 }),
  ];
  assert.deepEqual(again, once);
  assert.notDeepEqual(other.probe.token, once.probe.token);
});

test('noise is not predicted: R² about zero on the images held out, while the fit itself says more', async () => {
  const noise = makeSamples(200, 8, 16, 8, (_z, _cls, _mean, random) => Math.exp(normal(random)));
  const { r2, rankCorrelation } = await fitProbe(runtime, noise, { seed: 1 });
  assert.ok(Math.abs(r2) < 0.1, `R² ${r2}`);
  assert.ok(Math.abs(rankCorrelation) < 0.2, `rank correlation ${rankCorrelation}`);
});

test('a signed target is predicted as it is, its outliers clipped at four deviations', async () => {
  const signed = makeSamples(120, 16, 12, 4, (z, cls) => 0.01 * (z[1]! - z[2]! + cls[0]!) - 0.02);
  signed.target[5] = 1e4;
  const { target } = prepareSamples(signed, 'signed', 0.15, 1);
  assert.ok(target[5]! < 1e4);
  signed.target[5] = 0.02;
  const { r2, probe } = await fitProbe(runtime, signed, { ...options, epochs: 40, target: 'signed' });
  assert.ok(r2 > 0.9, `R² ${r2}`);
  assert.ok(Math.abs(probe.outputBias) < 1);
});

test('a target that does not vary is predicted by itself, and has no R²', async () => {
  const constant = makeSamples(40, 4, 8, 2, () => 0.5);
  const { r2, probe } = await fitProbe(runtime, constant, { seed: 1, epochs: 30 });
  assert.ok(Number.isNaN(r2));
  const predicted = applyProbe(probe, normaliseRows(constant.tokens, 8), constant.cls, constant.mean, constant.image);
  const mean = predicted.reduce((a, b) => a + b, 0) / predicted.length;
  assert.ok(Math.abs(mean - Math.log(0.5)) < 0.05, `${mean}`);
});

test('samples that do not fit together are refused; a stopped fit says how far it came', async () => {
  const refused = (samples: ProbeSamples, message: RegExp) =>
    assert.rejects(
      fitProbe(runtime, samples, { seed: 1 }),
      (error: HeartwoodError) => error.code === 'INVALID_ARGUMENT' && message.test(error.message),
    );
  const small = makeSamples(3, 2, 4, 1, () => 1);
  await refused({ ...small, target: small.target.slice(1) }, /6 rows of 4 features go with 24 elements and 5 targets/);
  await refused({ ...small, image: Int32Array.of(0, 0, 1, 1, 2, 3) }, /row 5 is of image 3, expected 0 … 2/);
  await refused({ ...small, target: Float32Array.of(1, 1, NaN, 1, 1, 1) }, /target of row 2 is NaN/);
  await refused({ ...small, image: new Int32Array(6) }, /at least two images, got 1/);
  const stop = new AbortController();
  const fit = fitProbe(runtime, planted, {
    seed: 1,
    signal: stop.signal,
    progress: (done) => (done === 3 ? stop.abort() : undefined),
  });
  await assert.rejects(fit, (error: HeartwoodError) => error.code === 'CANCELLED' && /after 3 of/.test(error.message));
});
