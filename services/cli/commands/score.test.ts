import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { after, describe, it } from 'node:test';
import { scoresSchema } from '../../../libs/curvature/scores.js';
import { readSafetensors, readTensor, writeSafetensors } from '../../../libs/models/safetensors.js';
import { writeRandomCausalLm } from '../../../libs/models/testing/random-causal.js';
import { writeRandomCheckpoint } from '../../../libs/models/testing/random-checkpoint.js';
import { exitCodes, runCommand } from '../run.js';

const folder = await mkdtemp(join(tmpdir(), 'heartwood-cli-score-'));
after(() => rm(folder, { recursive: true, force: true }));

const shape = { hidden: 16, layers: 2, heads: 2, intermediate: 12, imageSize: 8, patchSize: 4, classes: 4 };
const model = await writeRandomCheckpoint(join(folder, 'net'), shape);
const data = join(folder, 'data.safetensors');
const pixels = Float32Array.from({ length: 3 * 192 }, (_, i) => Math.sin(7.7 * i));
await writeSafetensors(data, [
  { name: 'pixel_values', type: 'float32', shape: [3, 3, 8, 8], bytes: new Uint8Array(pixels.buffer) },
]);
const out = join(folder, 'scores.json');
const base = ['score', '--model', model, '--data', data, '--out', out];

async function run(argv: readonly string[]): Promise<{ code: number; out: string; err: string }> {
  const text = { out: '', err: '' };
  const sink = (key: 'out' | 'err') =>
    new Writable({
      write(chunk: Buffer, _encoding, done) {
        text[key] += chunk.toString();
        done();
      },
    });
  const signal = new AbortController().signal;
  const code = await runCommand(argv, { stdout: sink('out'), stderr: sink('err'), signal });
  return { code, ...text };
}

const causal = { hidden: 16, layers: 2, heads: 2, intermediate: 12, vocabulary: 50, context: 8 };
const languageModel = await writeRandomCausalLm(join(folder, 'text-net'), causal);
const tokens = join(folder, 'tokens.safetensors');
const inputIds = BigInt64Array.from({ length: 18 }, (_, i) => BigInt((7 * i * i + 3) % 50));
await writeSafetensors(tokens, [
  { name: 'input_ids', type: 'int64', shape: [3, 6], bytes: new Uint8Array(inputIds.buffer) },
]);

describe('heartwood score', () => {
  it('writes scores.json and says what is in it', async () => {
    const { code, out: text, err } = await run([...base, '--units', 'heads,masks', '--interactions', '--json', '-']);
    assert.equal(code, exitCodes.done, err);
    assert.equal(err, '');
    const scores = scoresSchema.parse(JSON.parse(await readFile(out, 'utf8')));
    assert.equal(scores.model, 'net');
    assert.deepEqual(scores.units.heads!.shape, [2, 2]);
    assert.deepEqual(scores.units.masks!.shape, [3, 2, 5]);
    assert.equal(scores.units.heads!.interactions!.length, 4);
    const summary = JSON.parse(text) as { units: { unit: string; mean: number }[] };
    assert.deepEqual(
      summary.units.map(({ unit }) => unit),
      ['heads', 'masks'],
    );
    const mean = scores.units.heads!.curvature.reduce((a, b) => a + b) / 4 / 2 / 3;
    assert.ok(Math.abs(summary.units[0]!.mean - mean) < 1e-12);
    assert.ok(!(await readdir(folder)).some((name) => name.startsWith('.')), 'nothing half-written');
  });

  it('scores a language model per position of its windows', async () => {
    const argv = ['score', '--model', languageModel, '--data', tokens, '--out', out, '--units', 'heads,masks'];
    for (const [loss, positions] of [
      ['kl', 18],
      ['cross-entropy', 15],
    ] as const) {
      const { code, out: text, err } = await run([...argv, '--loss', loss, '--json', '-']);
      assert.equal(code, exitCodes.done, err);
      const scores = scoresSchema.parse(JSON.parse(await readFile(out, 'utf8')));
      assert.deepEqual([scores.samples, scores.positions], [3, positions]);
      assert.deepEqual(scores.units.heads!.shape, [2, 2]);
      assert.deepEqual(scores.units.masks!.shape, [3, 2, 6]);
      const summary = JSON.parse(text) as { positions: number; units: { unit: string; mean: number }[] };
      assert.equal(summary.positions, positions);
      const [heads, masks] = [scores.units.heads!.curvature, scores.units.masks!.curvature];
      const means = [heads.reduce((a, b) => a + b) / 4 / 2, masks.reduce((a, b) => a + b) / 36 / 2];
      const perPosition = [means[0]! / positions, means[1]! / (positions / 3)];
      summary.units.forEach(({ mean }, i) => assert.ok(Math.abs(mean - perPosition[i]!) < 1e-12));
    }
    const bits = await run([...argv.with(-1, 'heads,bits'), '--json', '-']);
    assert.equal(bits.code, exitCodes.done, bits.err);
    const { units } = scoresSchema.parse(JSON.parse(await readFile(out, 'utf8')));
    assert.deepEqual(units.bits!.shape, [9, 2]);
    assert.deepEqual([units.bits!.widths, units.bits!.matrices!.length], [[8, 4], 9]);
    const said = await run([...argv, '--samples', '2']);
    assert.match(said.out, /nats per position.*\n12 positions of 2 windows of tokens\.safetensors, kl/);
  });

  it('draws as the seed says', async () => {
    const options = ['--units', 'neurons', '--estimator', 'output-sketch', '--probes', '4', '--samples', '2'];
    const of = async (seed: string) => {
      const { code, err } = await run([...base, ...options, '--seed', seed]);
      assert.equal(code, exitCodes.done, err);
      return readFile(out, 'utf8');
    };
    const first = await of('5');
    assert.equal(await of('5'), first);
    assert.notEqual(await of('6'), first);
    assert.equal(JSON.parse(first).samples, 2);
  });

  it('answers bad input in one line, and writes nothing', async () => {
    await rm(out, { force: true });
    const refuses = async (argv: readonly string[], pattern: RegExp) => {
      const result = await run(argv);
      assert.equal(result.code, exitCodes.badInput, result.err);
      assert.equal(result.out, '');
      assert.match(result.err, /^heartwood: [^\n]+\n$/);
      assert.match(result.err, pattern);
    };
    await refuses([...base, '--units', 'heads,layers'], /--units <list>.*Expected of heads, tokens/);
    await refuses([...base, '--units', 'heads', '--probes', '1'], /--probes <n>.*of at least 2/);
    await refuses([...base, '--units', 'heads', '--loss', 'cross-entropy'], /has no labels, expected/);
    await refuses(
      [...base, '--units', 'heads', '--loss', 'cross-entropy', '--estimator', 'output-sketch'],
      /output-sketch knows the loss kl alone/,
    );
    await refuses(
      [...base.slice(0, -1), join(folder, 'absent', 'scores.json'), '--units', 'heads'],
      /absent.scores\.json: cannot be written/,
    );
    await refuses([...base.with(2, languageModel), '--units', 'heads'], /data\.safetensors has no tensor input_ids/);
    await refuses(
      [...base.with(4, tokens), '--units', 'heads'],
      /tokens\.safetensors holds input_ids, .* images are expected/,
    );
    await refuses([...base, '--units', 'heads', '--window', '4'], /--window is for text/);
    await refuses([...base.with(2, join(folder, 'none')), '--units', 'heads'], /none: no such folder/);
    await assert.rejects(readFile(out), { code: 'ENOENT' });
  });

  it('refuses weights that are not numbers, naming the tensor', async () => {
    const broken = await writeRandomCheckpoint(join(folder, 'broken'), shape);
    const file = join(broken, 'model.safetensors');
    const { tensors } = await readSafetensors(file);
    const name = 'classifier.bias';
    const values = await readTensor(tensors.get(name)!);
    values[1] = NaN;
    const bytes = await readFile(file);
    bytes.set(new Uint8Array(values.buffer), tensors.get(name)!.offset);
    await writeFile(file, bytes);
    const { code, err } = await run([...base.with(2, broken), '--units', 'heads']);
    assert.equal(code, exitCodes.badInput);
    assert.match(err, /tensor classifier\.bias holds NaN/);
  });
});
