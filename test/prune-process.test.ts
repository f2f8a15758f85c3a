/** The main job through real processes: prune from the command line (killed and started again), evaluate, serve, the demo. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { watch } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { writeSmallModel } from '../libs/pruning/testing/small-model.js';
import type { Manifest } from '../libs/store/manifest.js';

const main = fileURLToPath(new URL('../services/cli/main.js', import.meta.url));
let root: string;
let model: { modelDirectory: string; data: string };
before(async () => {
  root = await mkdtemp(join(tmpdir(), 'heartwood-main-job-'));
  model = await writeSmallModel(root);
});
after(() => rm(root, { recursive: true, force: true }));

function start(argv: readonly string[]) {
  const child = spawn(process.execPath, [main, ...argv], { stdio: ['ignore', 'pipe', 'pipe'] });
  const text = { out: '', err: '' };
  child.stdout.on('data', (chunk: Buffer) => (text.out += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (text.err += chunk.toString()));
  const ended = once(child, 'close').then(([code, signal]) => ({
    code: code as number | null,
    signal: signal as string | null,
    ...text,
  }));
  return { child, ended };
}

const pruneArguments = (repository: string) => [
  'prune',
  ...['--model', model.modelDirectory, '--data', model.data, '--name', 'small'],
  ...['--repository', repository, '--loss-budget', '0.05', '--units', 'tokens,heads,neurons', '--json', '-'],
];

interface PruneResult {
  readonly version: number;
  readonly manifest: Manifest;
}

test('prune, killed with SIGKILL again and again, ends in the plan of a run that was left alone', async () => {
  const alone = await start(pruneArguments(join(root, 'alone'))).ended;
  assert.equal(alone.code, 0, alone.err);
  assert.equal(alone.err, '', 'silent in a pipe');
  const whole = JSON.parse(alone.out) as PruneResult;

  const repository = join(root, 'killed');
  const jobs = join(repository, '.jobs');
  await mkdir(jobs, { recursive: true });
  let kills = 0;
  for (;;) {
    const stages = await keptStages(jobs);
    const { child, ended } = start(pruneArguments(repository));
    // Killed as soon as one more stage is kept.
    const watcher = watch(jobs, { recursive: true }, () => {
      void keptStages(jobs).then((now) => {
        if (now > stages) child.kill('SIGKILL');
      });
    });
    const { code, signal, out, err } = await ended;
    watcher.close();
    if (signal === 'SIGKILL') {
      kills++;
      assert.ok(kills < 20);
      continue;
    }
    assert.equal(code, 0, err);
    const resumed = JSON.parse(out) as PruneResult;
    assert.ok(kills >= 3, `${kills} kills`);
    assert.deepEqual(resumed.manifest.plan, whole.manifest.plan);
    assert.deepEqual(resumed.manifest.files, whole.manifest.files);
    assert.deepEqual(await readdir(jobs), [], 'nothing of the job is left');
    break;
  }
});

async function keptStages(jobs: string): Promise<number> {
  const files = await readdir(jobs, { recursive: true }).catch(() => []);
  return files.filter((name) => name.endsWith('.checkpoint')).length;
}

test('evaluate and compare read what prune published', async () => {
  const measured = ['--repository', join(root, 'alone'), '--name', 'small', '--data', model.data, '--json', '-'];
  const { code, out, err } = await start(['evaluate', ...measured]).ended;
  assert.equal(code, 0, err);
  const { versions } = JSON.parse(out) as { versions: { version: number; kl: number; flopsSaved: number }[] };
  assert.deepEqual(
    versions.map(({ version }) => version),
    [1, 2],
  );
  assert.ok(versions[1]!.kl > 0 && versions[1]!.kl < 0.05 && versions[1]!.flopsSaved > 0);
  const compared = await start(['compare', ...measured, '--versions', '1,2', '--samples', '16']).ended;
  assert.equal(compared.code, 0, compared.err);
});

test('a refusal says what could be met, with exit code 1, and leaves no version', async () => {
  const repository = join(root, 'refused');
  const argv = [
    'prune',
    '--model',
    model.modelDirectory,
    '--data',
    model.data,
    '--name',
    'small',
    '--repository',
    repository,
  ];
  const refused = await start([...argv, '--flops-saved', '0.99']).ended;
  assert.equal(refused.code, 1);
  assert.match(
    refused.err,
    /^heartwood: a share of 0\.99 of the FLOPs cannot be saved; the most that can is 0\.\d+\n$/,
  );
  assert.deepEqual(
    (await readdir(join(repository, 'small'))).filter((name) => /^\d+$/.test(name)),
    ['1'],
  );
});

test('the demo, whole, on the bundled checkpoint', async () => {
  const output = join(root, 'demo');
  const json = join(root, 'demo.json');
  const { code, out, err } = await start(['demo', '--images', '24', '--output', output, '--json', json]).ended;
  assert.equal(code, 0, err);
  assert.match(out, /accuracy[\s\S]*ΔL bound[\s\S]*FLOPs saved[\s\S]*latency p95[\s\S]*joules/);
  const result = JSON.parse(await readFile(json, 'utf8')) as {
    report: string;
    manifest: Manifest;
    curve: unknown[];
    heads: { values: number[][] };
  };
  const { deltaLoss, method, flops } = result.manifest;
  assert.ok(deltaLoss!.bound <= method!.lossBudget!);
  assert.ok(flops.mean < 0.8 * flops.dense);
  assert.ok(result.curve.length >= 3);
  assert.equal(result.heads.values.length, 6);
  const html = await readFile(result.report, 'utf8');
  assert.ok((await stat(result.report)).size > 50_000);
  assert.doesNotMatch(html, /(src|href)="https?:/, 'the report is self-contained');
});
