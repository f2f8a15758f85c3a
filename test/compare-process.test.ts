/** `heartwood compare` as a process: table, JSON and report, in its own process and by a server; bad input; Ctrl-C. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import sharp from 'sharp';
import { writeSafetensors } from '../libs/models/safetensors.js';
import { heavyModel, publishGraph } from '../services/server/testing/fixture-models.js';
import { liveServer, type LiveServer, until } from '../services/server/testing/live-server.js';

let live: LiveServer;
let folder = '';
let images = '';
before(async () => {
  live = await liveServer();
  folder = dirname(live.repository.directory);
  images = join(folder, 'images');
  // Both fixtures answer the brightest channel.
  for (const [label, background] of [
    ['red', { r: 255, g: 0, b: 0 }],
    ['green', { r: 0, g: 255, b: 0 }],
    ['blue', { r: 0, g: 0, b: 255 }],
  ] as const) {
    await mkdir(join(images, label), { recursive: true });
    for (let i = 0; i < 8; i++) {
      const image = sharp({ create: { width: 8 + i, height: 8 + i, channels: 3, background } });
      await image.png().toFile(join(images, label, `${i}.png`));
    }
  }
});
after(() => live.stop());

const main = fileURLToPath(new URL('../services/cli/main.js', import.meta.url));

function start(argv: readonly string[]) {
  const child = spawn(process.execPath, [main, 'compare', '--name', 'net', ...argv], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, HEARTWOOD_DEBUG: '' },
  });
  const text = { out: '', err: '' };
  child.stdout.on('data', (chunk: Buffer) => (text.out += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (text.err += chunk.toString()));
  const ended = once(child, 'close').then(([code]) => ({ code: code as number | null, ...text }));
  return { child, ended };
}

/** The names of all fields in a JSON document, lists and their parts included. */
function fieldsOf(value: unknown): Set<string> {
  if (typeof value !== 'object' || value === null) return new Set();
  if (Array.isArray(value)) return new Set(value.flatMap((each) => [...fieldsOf(each)]));
  return new Set(Object.entries(value).flatMap(([name, each]) => [name, ...fieldsOf(each)]));
}

const roads = {
  'in its own process': () => ['--repository', live.repository.directory],
  'by a server': () => ['--server', `127.0.0.1:${live.grpcPort}`],
};

for (const [name, road] of Object.entries(roads)) {
  test(`compares ${name}: table, JSON and report`, async () => {
    const [json, report] = [join(folder, `${name}.json`), join(folder, `${name}.html`)];
    const argv = ['--versions', '1,2', '--data', images, '--batch', '2', '--concurrency', '2', '--warmup', '2'];
    const options = [...argv, '--budget', '1', '--confidence', '0.9', '--json', json, '--report', report];
    const { code, out, err } = await start([...road(), ...options]).ended;
    assert.deepEqual([code, err], [0, ''], out);
    assert.match(out, /version 1 \(unpruned\).*version 2 \(curvature\).*against 1/);
    for (const measure of [
      'latency p50',
      'latency p95',
      'latency p99',
      'samples/s',
      'joules per sample',
      'FLOPs',
      'agreement',
    ]) {
      assert.ok(out.includes(measure), measure);
    }
    assert.match(out, /latency p50 .*\d× \[\d+\.\d+, \d+\.\d+\]/);
    assert.match(out, /accuracy .*100\.00 %.*100\.00 %.*0\.00 pp \[-\d+\.\d+, \d+\.\d+\]/);
    assert.match(out, /24 samples of .* in 12 requests of 2, 2 under way at a time; the versions took turns in/);
    assert.match(out, /90 % confidence intervals/);
    assert.match(
      out,
      name === 'by a server' ? /preprocessing, queue and batching included/ : /a session of this process/,
    );

    const result = JSON.parse(await readFile(json, 'utf8'));
    assert.deepEqual([result.samples, result.batch, result.concurrency, result.confidence], [24, 2, 2, 0.9]);
    const [first, second] = result.versions;
    const cost = (tokens: number) => 1 + 10 * tokens + tokens * tokens;
    assert.equal(second.flops, cost(17) + cost(13) + cost(9));
    assert.deepEqual([first.accuracy, second.accuracy, second.agreement, second.budget], [1, 1, 1, 1]);
    assert.deepEqual(second.tokensKept, [13, 9]);
    assert.equal(second.differences.flops.value, second.flops / first.flops);
    assert.equal(first.latency.distribution.length, 101);

    const documented = await readFile(new URL('../../docs/compare.md', import.meta.url), 'utf8');
    for (const field of fieldsOf(result))
      assert.ok(documented.includes(`\`${field}\``) || documented.includes(`.${field}\``), field);

    const page = await readFile(report, 'utf8');
    assert.doesNotMatch(page, /<script|https?:\/\/(?!www\.w3\.org)|url\((?!#)/, 'one file, without scripts or links');
    for (const text of ['latency of a request, ms', 'latency p99, version 2', 'percentage points', 'FLOPs per image']) {
      assert.ok(page.includes(text), text);
    }
    assert.equal(page.match(/<svg/g)!.length, 4);
  });

  test(`names what is wrong, ${name}`, async () => {
    const refuses = async (argv: readonly string[], pattern: RegExp) => {
      const { code, out, err } = await start([...road(), ...argv]).ended;
      assert.deepEqual([code, out], [2, ''], err);
      assert.match(err, /^heartwood: [^\n]+\n$/);
      assert.match(err, pattern);
    };
    await refuses(['--versions', '1,9', '--data', images], /version 9 of net/);
    await refuses(['--data', join(folder, 'absent')], /absent/);
    await refuses(['--data', images, '--concurrency', '25'], /concurrency: 25 is more than the 24 requests/);
    const broken = join(folder, 'broken');
    await mkdir(join(broken, 'red'), { recursive: true });
    await writeFile(join(broken, 'red', 'cat.png'), 'no image');
    await refuses(['--data', broken], /cat\.png.* is not an image/);
    const strange = join(folder, 'strange');
    await mkdir(join(strange, 'purple'), { recursive: true });
    await sharp({ create: { width: 8, height: 8, channels: 3, background: 'purple' } })
      .png()
      .toFile(join(strange, 'purple', 'a.png'));
    await refuses(['--data', strange], /purple/);
  });
}

test('a server that is not there is one line, with exit code 1', async () => {
  const { code, out, err } = await start(['--server', '127.0.0.1:1', '--data', images]).ended;
  assert.deepEqual([code, out], [1, '']);
  assert.match(err, /^heartwood: [^\n]+\n$/);
});

test('Ctrl-C ends it at once, with 130 and without a result, and the server with it', async () => {
  const version = await publishGraph(live.repository, 'heavy', heavyModel());
  await until(() => live.client.modelReady('heavy', version));
  const big = join(folder, 'big.safetensors');
  const shape = [60, 3, 224, 224];
  const bytes = new Uint8Array(4 * shape.reduce((product, size) => product * size, 1));
  await writeSafetensors(big, [{ name: 'pixel_values', type: 'float32', shape, bytes }]);
  const runs = () => live.metric('heartwood_inference_requests_total{model="heavy",version="1",outcome="OK"}');
  const { child, ended } = start([...roads['by a server'](), '--name', 'heavy', '--data', big, '--json', '-']);
  await until(async () => (await runs()) > 0 || child.exitCode !== null);
  child.kill('SIGINT');
  const { code, out, err } = await ended;
  assert.deepEqual([code, out], [130, ''], err);
  assert.match(err, /^heartwood: interrupted/);
  // The server's place is free again, long before all runs are over.
  const one = { versions: [1], batch: 1, concurrency: 1, warmup: 0, seed: 0, confidence: 0.95, model: 'net' };
  async function* sample() {
    yield { input: { pixels: new Float32Array(3 * 64) }, label: undefined, name: '' };
  }
  await until(() =>
    live.client.compare(one, sample(), {}).then(
      () => true,
      () => false,
    ),
  );
  assert.ok((await runs()) < 60);
});
