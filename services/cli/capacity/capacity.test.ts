import assert from 'node:assert/strict';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { exitCodes, runCommand } from '../run.js';
import { type CapacityEstimate, estimateCapacity, type Footprint, serverBytes } from './footprint.js';

const mebibyte = 2 ** 20;
const image: Footprint = {
  model: 'vit',
  version: 1,
  task: 'image-classification',
  policy: 'unpruned',
  loadedBytes: 100 * mebibyte,
  loadingBytes: 30 * mebibyte,
  runs: [
    { batch: 1, bytes: 10 * mebibyte, ms: 5 },
    { batch: 8, bytes: 40 * mebibyte, ms: 30 },
  ],
  text: null,
};
const text: Footprint = {
  ...image,
  model: 'lm',
  task: 'text-generation',
  loadingBytes: 20 * mebibyte,
  runs: [{ batch: 1, bytes: 50 * mebibyte, ms: 5 }],
  text: {
    context: 256,
    rows: 4,
    rowBytes: 6 * mebibyte,
    cacheBytes: 24 * mebibyte,
    prefillTokensPerSecond: 1000,
    decodeTokensPerSecond: 50,
  },
};

test('a classifier is on every worker, a language model on one; the largest run and the largest load of each count', () => {
  const estimate = estimateCapacity([image, text], { instances: 3, heldBytes: 7 * mebibyte });
  assert.equal(estimate.modelBytes, (3 * 100 + 100) * mebibyte);
  assert.equal(estimate.runBytes, (3 * 40 + 50) * mebibyte);
  assert.equal(estimate.cacheBytes, 24 * mebibyte);
  assert.equal(estimate.loadingBytes, 30 * mebibyte);
  assert.equal(estimate.steadyBytes, serverBytes + (400 + 170 + 24) * mebibyte);
  assert.equal(estimate.limitBytes, estimate.steadyBytes + (30 + 7) * mebibyte);
});

let folder = '';
let repository = '';
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'heartwood-capacity-'));
  repository = join(folder, 'models');
  for (const name of ['demo-digits', 'demo-brown']) {
    const model = fileURLToPath(new URL(`../../../../models/${name}`, import.meta.url));
    assert.equal((await run('import', '--model', model, '--repository', repository)).code, exitCodes.done);
  }
});
after(() => rm(folder, { recursive: true, force: true }));

async function run(...argv: string[]): Promise<{ readonly code: number; readonly out: string; readonly err: string }> {
  const written = { out: '', err: '' };
  const sink = (key: 'out' | 'err') =>
    new Writable({
      write(chunk: Buffer, _encoding, done) {
        written[key] += chunk.toString();
        done();
      },
    });
  const { signal } = new AbortController();
  const code = await runCommand(argv, { stdout: sink('out'), stderr: sink('err'), signal });
  return { code, ...written };
}

test('both kinds of model are loaded and run, and what that takes is added up', async () => {
  const { code, out, err } = await run('capacity', '--repository', repository, '--generation-rows', '3', '--json', '-');
  assert.equal(code, exitCodes.done, err);
  const { versions, estimate } = JSON.parse(out) as { versions: Footprint[]; estimate: CapacityEstimate };
  const [brown, digits] = versions;
  assert.deepEqual([brown!.model, digits!.model], ['demo-brown', 'demo-digits']);
  const weights = (await stat(join(repository, 'demo-digits', '1', 'model.safetensors'))).size;
  assert.ok(digits!.loadedBytes > weights, `${digits!.loadedBytes} bytes for ${weights} of weights`);
  assert.deepEqual(
    digits!.runs.map(({ batch }) => batch),
    [1, 8],
  );
  assert.ok(digits!.runs[1]!.bytes > digits!.runs[0]!.bytes && digits!.runs[1]!.ms > digits!.runs[0]!.ms);
  assert.equal(brown!.text!.rows, 3);
  assert.equal(brown!.text!.cacheBytes, 3 * brown!.text!.rowBytes);
  assert.ok(brown!.text!.prefillTokensPerSecond > brown!.text!.decodeTokensPerSecond);
  const runs = digits!.runs[1]!.bytes + brown!.runs[0]!.bytes;
  const models = brown!.loadedBytes + digits!.loadedBytes;
  assert.equal(estimate.steadyBytes, serverBytes + models + runs + brown!.text!.cacheBytes);
});

test('what does not fit is said with what would', async () => {
  const args = ['capacity', '--repository', repository, '--name', 'demo-digits', '--max-held-bytes', '1000000'];
  const tight = await run(...args, '--memory', '64Mi');
  assert.equal(tight.code, exitCodes.failed);
  assert.match(tight.err, /--memory: 64 MiB is too little, expected at least \d+ MiB/);
  const wide = await run(...args, '--memory', '1Gi');
  assert.equal(wide.code, exitCodes.done, wide.err);
});

test('a version that cannot be loaded or read is said, and the others are measured', async () => {
  const damaged = join(folder, 'damaged');
  const model = fileURLToPath(new URL('../../../../models/demo-digits', import.meta.url));
  for (const name of ['a', 'b', 'c'])
    assert.equal((await run('import', '--model', model, '--name', name, '--repository', damaged)).code, exitCodes.done);
  await rm(join(damaged, 'b', '1', 'model.onnx'));
  await rm(join(damaged, 'c', '1', 'heartwood.json'));
  const { code, out, err } = await run('capacity', '--repository', damaged, '--json', '-');
  assert.equal(code, exitCodes.failed);
  assert.match(err, /^heartwood: 2 of the versions not counted: [^\n]+\n$/);
  const { versions, problems } = JSON.parse(out) as { versions: Footprint[]; problems: string[] };
  assert.deepEqual(
    versions.map(({ model }) => model),
    ['a'],
  );
  assert.equal(problems.length, 2);
  assert.match(problems[0]!, /^unreadable: .*c\/1/);
  assert.match(problems[1]!, /^not measured: version 1 of b: .*model\.onnx/);
  const { out: text } = await run('capacity', '--repository', damaged);
  for (const problem of problems) assert.ok(text.split('\n').includes(problem), text);
});

for (const [what, argv, said] of [
  ['versions of no model', ['--versions', '1'], /--versions: expected --name with it/],
  ['a version that is not there', ['--name', 'demo-digits', '--versions', '7'], /version 7 of demo-digits/],
  ['a size of a unit that is none', ['--memory', '4GB'], /Expected a size such as 8Gi/],
] as const)
  test(`${what} is refused`, async () => {
    const { code, err } = await run('capacity', '--repository', repository, ...argv);
    assert.notEqual(code, exitCodes.done);
    assert.match(err, said);
  });
