import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { after, before, describe, it } from 'node:test';
import { writeSafetensors } from '../../libs/models/safetensors.js';
import type { Repository } from '../../libs/store/repository.js';
import { budgetDraft, budgetModel, meanModel, publishGraph } from '../server/testing/fixture-models.js';
import { temporaryRepository } from '../server/testing/temporary-repository.js';
import { exitCodes, runCommand } from './run.js';

let folder = '';
let repository: Repository;
let data = '';
let cleanUp: () => Promise<void>;

const samples = 6;
const area = 64;

before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'heartwood-cli-'));
  ({ repository, remove: cleanUp } = await temporaryRepository());
  await publishGraph(repository, 'net', meanModel());
  await publishGraph(repository, 'net', budgetModel(), budgetDraft);
  // Sample i is brightest in channel i mod 3, which is its label: the fixtures' logits are the means of the channels.
  const pixels = new Float32Array(samples * 3 * area);
  for (let i = 0; i < samples; i++) pixels.fill(2, (i * 3 + (i % 3)) * area, (i * 3 + (i % 3) + 1) * area);
  data = join(folder, 'data.safetensors');
  await writeSafetensors(data, [
    { name: 'pixel_values', type: 'float32', shape: [samples, 3, 8, 8], bytes: new Uint8Array(pixels.buffer) },
    {
      name: 'labels',
      type: 'int64',
      shape: [samples],
      bytes: new Uint8Array(BigInt64Array.from({ length: samples }, (_, i) => BigInt(i % 3)).buffer),
    },
  ]);
});
after(async () => {
  rmSync(folder, { recursive: true, force: true });
  await cleanUp();
});

interface Result {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

async function run(argv: readonly string[], signal = new AbortController().signal): Promise<Result> {
  const text = { out: '', err: '' };
  const sink = (key: 'out' | 'err') =>
    new Writable({
      write(chunk: Buffer, _encoding, done) {
        text[key] += chunk.toString();
        done();
      },
    });
  const code = await runCommand(argv, { stdout: sink('out'), stderr: sink('err'), signal });
  return { code, ...text };
}

const inNet = () => ['--repository', repository.directory, '--name', 'net'];

async function json(argv: readonly string[]): Promise<Record<string, unknown>> {
  const { code, out, err } = await run([...argv, '--json', '-']);
  assert.equal(code, exitCodes.done, err);
  assert.equal(err, '', 'quiet where there is no terminal');
  return JSON.parse(out) as Record<string, unknown>;
}

/** Bad input: its exit code, nothing on stdout, and one line on stderr without a stack. */
async function refuses(argv: readonly string[], pattern: RegExp): Promise<void> {
  const { code, out, err } = await run(argv);
  assert.equal(code, exitCodes.badInput, err);
  assert.equal(out, '');
  assert.match(err, /^heartwood: [^\n]+\n$/);
  assert.match(err, pattern);
}

describe('heartwood', () => {
  it('shows help that teaches, for itself and for every command', async () => {
    const { code, out } = await run(['--help']);
    assert.equal(code, exitCodes.done);
    assert.match(out, /npx heartwood prune +--model/);
    const commands = [
      ...out
        .split('Commands:')[1]!
        .split('\n\n')[0]!
        .matchAll(/^ {2}(\w+)/gm),
    ].map(([, name]) => name!);
    assert.ok(commands.includes('evaluate') && commands.includes('serve'));
    for (const command of commands.filter((name) => name !== 'help')) {
      const help = await run([command, '--help']);
      assert.equal(help.code, exitCodes.done);
      assert.match(help.out, new RegExp(`Examples:\n  \\$ npx heartwood ${command} `), command);
    }
  });

  it('tells which providers work, and which one auto would take', async () => {
    const { auto, providers } = (await json(['providers'])) as {
      auto: string;
      providers: { provider: string; works: boolean; auto: boolean; reason?: string }[];
    };
    assert.deepEqual(
      providers.map(({ provider }) => provider),
      ['cpu', 'cuda', 'tensorrt', 'webgpu'],
    );
    assert.equal(providers.find((each) => each.auto)?.provider, auto);
    for (const { provider, works, auto: taken, reason } of providers) {
      if (provider === 'cpu') assert.equal(works, true);
      if (!taken) assert.ok(reason, provider);
    }
  });

  it('answers what it cannot do in one line', async () => {
    await refuses(['evalute'], /unknown command 'evalute' .*evaluate/);
    await refuses(['list'], /required option '--repository <folder>' not specified/);
    await refuses(['list', '--repository', join(folder, 'absent')], /absent: expected a folder/);
    await refuses(
      ['list', '--repository', repository.directory, '--name', 'other'],
      /model other: not in the repository/,
    );
    await refuses(['promote', ...inNet().slice(0, 3), '../net', '--version', '1'], /\.\.\/net/);
    await refuses(
      ['promote', ...inNet(), '--version', '0'],
      /--version.*'0' is invalid\. Expected an integer of at least 1/,
    );
    await refuses(['promote', ...inNet()], /expected either --version N or --unpin/);
    await refuses(['promote', ...inNet(), '--version', '7'], /version 7 of net/);
    const evaluate = ['evaluate', ...inNet(), '--data', data];
    await refuses([...evaluate, '--budget', '-1'], /--budget.*Expected a number of at least 0/);
    await refuses([...evaluate, '--versions', '1,x'], /Expected version numbers such as 1,2/);
    await refuses([...evaluate, '--versions', '1,9'], /version 9 of net: expected one of 1, 2/);
    await refuses(['evaluate', ...inNet(), '--data', join(folder, 'no-data')], /no-data/);
    await refuses([...evaluate, '--json', join(folder, 'no', 'such.json')], /such\.json: cannot be written/);
    const serve = ['serve', '--repository', repository.directory];
    await refuses([...serve, '--port', '70000'], /at most 65535/);
    await refuses([...serve, '--load-control', 'sometimes'], /Allowed choices are none, poll, explicit/);
    await refuses([...serve, '--load-model', 'net'], /option --load-model: expected none with load control poll/);
    for (const flag of [
      ...['--queue-delay-ms', '--queue-timeout-ms', '--run-limit-ms', '--poll-ms', '--compare-idle-ms', '--drain-ms'],
      ...['--security-poll-ms', '--transfer-timeout-ms', '--keepalive-ms', '--keepalive-timeout-ms'],
      ...['--max-connection-idle-ms', '--max-connection-age-ms', '--stop-delay-ms'],
    ]) {
      await refuses([...serve, flag, '2147483648'], new RegExp(`option ${flag}: expected \\d+ milliseconds at most`));
    }
    await refuses([...serve, '--latency-slo', '2147484s'], /option --latency-slo: expected 2147483647 milliseconds/);
  });

  it('lists, promotes and removes versions', async () => {
    const listed = await json(['list', '--repository', repository.directory]);
    const rows = listed.versions as Record<string, unknown>[];
    assert.deepEqual(
      rows.map(({ version, policy }) => [version, policy]),
      [
        [1, 'unpruned'],
        [2, 'curvature'],
      ],
    );
    assert.equal(rows[1]!.default, true);
    assert.equal((await json(['promote', ...inNet(), '--version', '1'])).default, 1);
    const { out } = await run(['list', '--repository', repository.directory]);
    assert.match(out, /net\W+1\W+pinned/);
    assert.equal((await json(['promote', ...inNet(), '--unpin'])).default, 2);

    await publishGraph(repository, 'gone', meanModel());
    const file = join(folder, 'removed.json');
    const removed = await run([
      'remove',
      '--repository',
      repository.directory,
      '--name',
      'gone',
      '--version',
      '1',
      '--json',
      file,
    ]);
    assert.deepEqual([removed.code, removed.out], [exitCodes.done, 'gone: version 1 is removed\n']);
    assert.deepEqual(JSON.parse(readFileSync(file, 'utf8')), { model: 'gone', removed: 1 });
    assert.ok(!existsSync(repository.versionDirectory('gone', 1)));
    const needed = await run(['remove', ...inNet(), '--version', '1']);
    assert.deepEqual([needed.code, needed.out], [exitCodes.failed, '']);
    assert.match(needed.err, /; --force removes it all the same\n$/);
  });

  it('evaluates versions against the unpruned one', async () => {
    const { versions } = await json(['evaluate', ...inNet(), '--data', data, '--budget', '1', '--batch', '4']);
    const [dense, pruned] = versions as Record<string, number & number[]>[];
    // Logits are 2 for the label and 0 elsewhere; the pruned one adds its budget to all, which changes no probability.
    const crossEntropy = Math.log(Math.exp(2) + 2) - 2;
    for (const row of [dense!, pruned!]) {
      assert.equal(row.accuracy, 1);
      assert.equal(row.samples, samples);
      assert.ok(Math.abs(row.crossEntropy! - crossEntropy) < 1e-6);
      assert.ok(Math.abs(row.kl!) < 1e-9);
    }
    assert.deepEqual(pruned!.tokensKept, [13, 9]);
    const segment = (tokens: number) => 1 + 10 * tokens + tokens * tokens;
    assert.equal(pruned!.flops, segment(17) + segment(13) + segment(9));
    assert.equal(pruned!.budget, 1);
    assert.equal(dense!.budget, null);
  });

  it('compares versions in turn on the same inputs', async () => {
    const result = await json([
      'compare',
      ...inNet(),
      '--data',
      data,
      '--versions',
      '2,1',
      '--batch',
      '2',
      '--warmup',
      '1',
    ]);
    const rows = result.versions as { version: number; latency: Record<string, number>; [key: string]: unknown }[];
    assert.deepEqual(
      rows.map(({ version }) => version),
      [2, 1],
    );
    assert.deepEqual([result.samples, result.requests, result.where], [samples, samples / 2, 'process']);
    for (const { latency, accuracy, agreement, joules } of rows) {
      assert.ok(latency.p50! > 0 && latency.p95! >= latency.p50! && latency.p99! >= latency.p95!);
      assert.deepEqual([accuracy, agreement], [1, 1]);
      assert.equal(joules === null, result.meter === null);
    }
    const against = ['compare', ...inNet(), '--data', data];
    await refuses([...against, '--batch', '7'], /batch: 7 is more than the 6 samples/);
    await refuses([...against, '--concurrency', '7'], /concurrency: 7 is more than the 6 requests/);
    await refuses([...against, '--confidence', '1'], /Expected a number above 0\.5 and below 1/);
    await refuses([...against, '--versions', '1,9'], /version 9 of net: expected one of 1, 2/);
    await refuses([...against, '--report', join(folder, 'no', 'report.html')], /report\.html: cannot be written/);
    await refuses([...against, '--server', '127.0.0.1:1'], /--server.*cannot be used with.*--repository/);
    await refuses(['compare', '--name', 'net', '--data', data], /either --repository FOLDER or --server HOST:PORT/);
  });

  it('stops when it is told to', async () => {
    const controller = new AbortController();
    const serving = run(
      [
        'serve',
        '--repository',
        repository.directory,
        '--host',
        '127.0.0.1',
        '--port',
        '0',
        '--metrics-port',
        '0',
        '--log-level',
        'silent',
      ],
      controller.signal,
    );
    controller.abort();
    assert.equal((await serving).code, exitCodes.failed, 'told before it began');
    const aborted = await run(['evaluate', ...inNet(), '--data', data], controller.signal);
    assert.deepEqual([aborted.code, aborted.err], [exitCodes.failed, 'heartwood: interrupted\n']);
  });
});
