import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { createClient } from 'nice-grpc';
import { HeartwoodError } from '../../libs/errors/error.js';
import { openRepository } from '../../libs/store/repository.js';
import type { Entered } from '../../libs/store/testing/matrix-work.js';
import { createLogger } from '../../libs/telemetry/log.js';
import { HealthCheckResponse_ServingStatus, HealthDefinition } from '../../proto/gen/grpc/health/v1/health.js';
import { ServerReflectionDefinition } from '../../proto/gen/grpc/reflection/v1/reflection.js';
import { type ConnectionOptions, openChannel } from '../grpc/channel.js';
import { makeAuthority, withoutOpenssl } from '../grpc/testing/certificates.js';
import { connectPruning, type Job, JobState, type PruneWish, type PruningClient, StageState } from './client.js';
import { type RunningPruner, startPruner } from './pruner.js';
import { matrixPruning } from './testing/matrix-pruning.js';
import { startWorker } from './worker.js';

const root = mkdtempSync(join(tmpdir(), 'heartwood-pruner-'));
const model = join(root, 'tiny-vit');
const repository = join(root, 'repository');
const logger = createLogger('test', 'silent');
const hooks: { entered: Entered } = { entered: () => undefined };
let pruner: RunningPruner;
let client: PruningClient;
const options = {
  repository,
  dataDirectory: join(root, 'data'),
  host: '127.0.0.1',
  port: 0,
  metricsPort: 0,
  heartbeatMs: 20,
  pollMs: 50,
};
const wish: PruneWish = { modelDirectory: model, data: 'demo:digits', lossBudget: 0.05, seed: 3 };

before(async () => {
  mkdirSync(model);
  writeFileSync(join(model, 'config.json'), '{}');
  pruner = await startPruner(options, { logger, work: matrixPruning((...step) => hooks.entered(...step)) });
  client = connectPruning(`127.0.0.1:${pruner.grpcPort}`);
});
beforeEach(() => (hooks.entered = () => undefined));
after(async () => {
  client.close();
  await pruner.stop();
  rmSync(root, { recursive: true, force: true });
});

const coded = (code: string, text: RegExp) => (error: unknown) =>
  error instanceof HeartwoodError && error.code === code && text.test(error.message) && !error.message.includes('\n');

async function finished(id: string): Promise<Job> {
  let job: Job | undefined;
  for await (job of client.watch(id));
  return job!;
}

test('a job goes through its stages to a version in the repository and a report', async () => {
  const created = await client.create(wish);
  assert.deepEqual(created.request, {
    modelDirectory: model,
    data: 'demo:digits',
    name: 'tiny-vit',
    lossBudget: 0.05,
    flopsSaved: undefined,
    // Which go without a word depends on the model.
    units: [],
    policy: 'curvature',
    loss: 'kl',
    samples: undefined,
    window: undefined,
    bits: undefined,
    ladder: '',
    shardSamples: undefined,
    seed: 3,
    confidence: 0.95,
  });
  const jobs: Job[] = [];
  for await (const job of client.watch(created.id)) jobs.push(job);
  const job = jobs.at(-1)!;
  assert.equal(job.state, JobState.JOB_STATE_SUCCEEDED);
  assert.ok(jobs.every((each, index) => index === 0 || each.revision > jobs[index - 1]!.revision));
  const stage = job.stages.find(({ name }) => name === 'iterate')!;
  assert.deepEqual([stage.state, stage.done, stage.total, stage.unit], [StageState.STAGE_STATE_DONE, 16, 16, 'rows']);
  const report = await client.report(job.id);
  const version = await (await openRepository(repository)).resolve('tiny-vit', job.result!.version);
  assert.equal(report.planJson, JSON.stringify(version.manifest.plan));
  assert.deepEqual(JSON.parse(report.manifestJson), version.manifest);
  assert.equal(version.manifest.publication, job.id);
  assert.deepEqual(report.deltaLoss, { predicted: 0.02, measured: 0.03, bound: 0.04, confidence: 0.95, samples: 8 });
  assert.deepEqual(
    [report.flops?.saved, report.accuracy, report.lossBudget],
    [0.4, { dense: 0.9, pruned: 0.89 }, 0.05],
  );
  assert.deepEqual(
    report.tables.map(({ title }) => title),
    ['Loss, nats per sample', 'FLOPs per sample', 'Accuracy'],
  );
  for (const { columns, rows } of report.tables)
    for (const { cells } of rows) assert.equal(cells.length, columns.length);
});

test('the progress that is watched has rates and time left', async () => {
  let seen!: () => void;
  const rated = new Promise<void>((resolve) => (seen = resolve));
  // The work waits in mid-stage until a rate was seen: else it may end between two looks.
  hooks.entered = (stage, step) => (stage === 'iterate' && step === 40 ? rated : undefined);
  const { id } = await client.create({ ...wish, samples: 40 });
  for await (const job of client.watch(id)) {
    const running = job.stages.find(({ state }) => state === StageState.STAGE_STATE_RUNNING);
    if (running?.rate === undefined || running.secondsLeft === undefined) continue;
    const left = (running.total - running.done) / running.rate;
    assert.ok(Math.abs(running.secondsLeft - left) <= 1e-9 * left);
    seen();
  }
  await rated;
});

test('a request id makes one job; with another request it is refused', async () => {
  const all = await Promise.all([1, 2, 3].map(() => client.create(wish, 'once')));
  assert.equal(new Set(all.map(({ id }) => id)).size, 1);
  assert.equal(all[0]!.requestId, 'once');
  assert.equal(
    (await client.create({ ...wish, name: 'tiny-vit', policy: 'curvature' }, 'once')).id,
    all[0]!.id,
    'defaults said aloud',
  );
  await assert.rejects(client.create({ ...wish, seed: 4 }, 'once'), coded('ALREADY_EXISTS', /request_id: "once"/));
  assert.equal((await finished(all[0]!.id)).attempts, 1);
});

test('bad requests are refused by the name of the field', async () => {
  const { lossBudget: _, ...aimless } = wish;
  const empty = join(root, 'no-config');
  mkdirSync(empty);
  const bad: [PruneWish, string, RegExp][] = [
    [{ ...wish, lossBudget: -0.1 }, 'INVALID_ARGUMENT', /^loss_budget: expected nats per sample, 0 or more, got -0.1/],
    [{ ...wish, lossBudget: NaN }, 'INVALID_ARGUMENT', /^loss_budget/],
    [{ ...wish, flopsSaved: 0.5 }, 'INVALID_ARGUMENT', /^loss_budget, flops_saved: .* got both/],
    [aimless, 'INVALID_ARGUMENT', /^loss_budget, flops_saved: .* got neither/],
    [{ ...aimless, flopsSaved: 1 }, 'INVALID_ARGUMENT', /^flops_saved: expected a share above 0 and below 1, got 1/],
    [{ ...wish, data: '' }, 'INVALID_ARGUMENT', /^data: expected/],
    [{ ...wish, data: 'relative/path' }, 'INVALID_ARGUMENT', /^data: expected an absolute path/],
    [{ ...wish, data: '/nowhere/at/all' }, 'NOT_FOUND', /^data: nothing at \/nowhere/],
    [{ ...wish, data: 'demo:zzz' }, 'NOT_FOUND', /^data: no bundled dataset "demo:zzz", expected demo:digits/],
    [{ ...wish, data: 'demo:digits/all' }, 'NOT_FOUND', /^data: no bundled dataset/],
    [{ ...wish, seed: -1 }, 'INVALID_ARGUMENT', /^seed: expected a whole number from 0 to 4294967295, got -1/],
    [{ ...wish, seed: 0.5 }, 'INVALID_ARGUMENT', /^seed: .* got 0\.5/],
    [{ ...wish, samples: 2 ** 32 }, 'INVALID_ARGUMENT', /^samples: /],
    [{ ...wish, modelDirectory: '' }, 'INVALID_ARGUMENT', /^model_directory/],
    [{ ...wish, modelDirectory: join(root, 'absent') }, 'NOT_FOUND', /^model_directory: no folder/],
    [{ ...wish, modelDirectory: empty }, 'NOT_FOUND', /^model_directory: expected a config\.json/],
    [{ ...wish, name: '../up' }, 'INVALID_ARGUMENT', /^name: expected/],
    [{ ...wish, policy: 'oracle' }, 'INVALID_ARGUMENT', /^policy: expected one of curvature, .* got "oracle"/],
    [{ ...wish, units: ['tokens', 'layers'] }, 'INVALID_ARGUMENT', /^units: expected one of tokens/],
    [{ ...wish, loss: 'mse' }, 'INVALID_ARGUMENT', /^loss: expected one of kl/],
    [{ ...wish, samples: 0 }, 'INVALID_ARGUMENT', /^samples: expected 1 or more/],
    [{ ...wish, shardSamples: 0 }, 'INVALID_ARGUMENT', /^shard_samples: expected 1 or more/],
    [{ ...wish, shardSamples: 0.5 }, 'INVALID_ARGUMENT', /^shard_samples: expected a whole number/],
    [{ ...wish, confidence: 1 }, 'INVALID_ARGUMENT', /^confidence/],
  ];
  const before = await client.list();
  for (const [request, code, text] of bad)
    await assert.rejects(client.create(request), coded(code, text), String(text));
  await assert.rejects(client.create(wish, 'x'.repeat(129)), coded('INVALID_ARGUMENT', /^request_id/));
  assert.deepEqual(await client.list(), before, 'none was queued');
});

test('ids, pages and states that make no sense are refused', async () => {
  await assert.rejects(client.get('nonsense'), coded('INVALID_ARGUMENT', /^id: expected the id of a job/));
  const absent = '00000000-0000-4000-8000-000000000000';
  await assert.rejects(client.get(absent), coded('NOT_FOUND', /no such job/));
  await assert.rejects(client.cancel(absent), coded('NOT_FOUND', /no such job/));
  await assert.rejects(client.report(absent), coded('NOT_FOUND', /no such job/));
  await assert.rejects(finished(absent), coded('NOT_FOUND', /no such job/));
  await assert.rejects(client.list({ pageToken: 'x' }), coded('INVALID_ARGUMENT', /^page_token/));
  await assert.rejects(client.list({ pageSize: -1 }), coded('INVALID_ARGUMENT', /^page_size: .* got -1/));
  await assert.rejects(client.list({ pageSize: 5000 }), coded('INVALID_ARGUMENT', /^page_size/));
  await assert.rejects(client.list({ states: [JobState.JOB_STATE_UNSPECIFIED] }), coded('INVALID_ARGUMENT', /^states/));
});

test('cancelling stops the work at once, and there is no report and no version', async () => {
  let stopped!: () => void;
  const reached = new Promise<void>((resolve) => (stopped = resolve));
  let hold!: () => void;
  const held = new Promise<void>((resolve) => (hold = resolve));
  hooks.entered = (stage, step) => {
    if (stage !== 'iterate' || step !== 3) return;
    stopped();
    return held;
  };
  const { id } = await client.create({ ...wish, name: 'cancelled' });
  await reached;
  const cancelled = await client.cancel(id);
  assert.equal(cancelled.state, JobState.JOB_STATE_CANCELLED);
  assert.ok(cancelled.endedAt);
  hold();
  hooks.entered = () => undefined;
  assert.equal((await finished(id)).state, JobState.JOB_STATE_CANCELLED);
  await assert.rejects(client.report(id), coded('FAILED_PRECONDITION', /has no report, it is cancelled/));
  await finished((await client.create(wish)).id);
  assert.ok(!(await (await openRepository(repository)).listModels()).includes('cancelled'));
});

test('a job that fails says why', async () => {
  hooks.entered = () => {
    throw new HeartwoodError('FAILED_PRECONDITION', 'loss_budget: cannot be met; 0.08 can');
  };
  const job = await finished((await client.create(wish)).id);
  assert.deepEqual(
    [job.state, job.error],
    [JobState.JOB_STATE_FAILED, { code: 'FAILED_PRECONDITION', message: 'loss_budget: cannot be met; 0.08 can' }],
  );
  await assert.rejects(client.report(job.id), coded('FAILED_PRECONDITION', /it is failed: loss_budget: cannot be met/));
});

test('jobs are listed in pages, newest first', async () => {
  for (let index = 0; index < 3; index++) await finished((await client.create(wish)).id);
  const all = (await client.list({ states: [JobState.JOB_STATE_SUCCEEDED] })).jobs.map(({ id }) => id);
  const paged: string[] = [];
  for (let pageToken = '', pages = 0; pages === 0 || pageToken; pages++) {
    const page = await client.list({ states: [JobState.JOB_STATE_SUCCEEDED], pageSize: 2, pageToken });
    paged.push(...page.jobs.map(({ id }) => id));
    pageToken = page.nextPageToken;
  }
  assert.deepEqual(paged, all);
});

test('metrics count jobs by state and time the stages', async () => {
  const text = await (await fetch(`http://127.0.0.1:${pruner.metricsPort}/metrics`)).text();
  const { jobs } = await client.list({ states: [JobState.JOB_STATE_SUCCEEDED], pageSize: 1000 });
  assert.match(text, new RegExp(`^heartwood_pruning_jobs\\{state="succeeded"\\} ${jobs.length}$`, 'm'));
  assert.match(text, /^heartwood_pruning_jobs\{state="running"\} 0$/m);
  assert.match(text, /^heartwood_pruning_stage_duration_seconds_count\{stage="iterate"\} [1-9]/m);
});

test('a second pruner on the same data, a taken port, a worker without a database are refused and leave nothing open', async () => {
  await assert.rejects(startPruner(options, { logger }), coded('FAILED_PRECONDITION', /in use by process/));
  const elsewhere = { ...options, dataDirectory: join(root, 'elsewhere') };
  await assert.rejects(
    startPruner({ ...elsewhere, port: pruner.grpcPort }, { logger }),
    coded('UNAVAILABLE', /gRPC port/),
  );
  await assert.rejects(
    startPruner({ ...elsewhere, metricsPort: pruner.metricsPort }, { logger }),
    coded('UNAVAILABLE', /metrics port/),
  );
  await assert.rejects(startWorker(options, { logger }), coded('INVALID_ARGUMENT', /option --database/));
  for (const start of [startPruner, startWorker])
    await assert.rejects(
      start({ ...elsewhere, database: '' }, { logger }),
      coded('INVALID_ARGUMENT', /^option --database: expected a URL such as postgres:/),
    );
  await assert.rejects(
    startPruner({ ...options, port: 70000 }, { logger }),
    coded('INVALID_ARGUMENT', /option --port/),
  );
});

test('health, reflection and metrics of calls are there, as on the server', async () => {
  const { channel } = openChannel(`127.0.0.1:${pruner.grpcPort}`);
  try {
    const { statuses } = await createClient(HealthDefinition, channel).list({});
    for (const name of ['', 'heartwood.pruning.v1.PruningService'])
      assert.deepEqual(statuses[name], { status: HealthCheckResponse_ServingStatus.SERVING }, name);
    async function* requests() {
      yield { listServices: '' };
      yield { fileContainingSymbol: 'heartwood.pruning.v1.Job' };
    }
    const answers = [];
    for await (const answer of createClient(ServerReflectionDefinition, channel).serverReflectionInfo(requests()))
      answers.push(answer);
    const [listed, described] = answers;
    const names = listed?.listServicesResponse?.service.map(({ name }) => name);
    assert.ok(names?.includes('heartwood.pruning.v1.PruningService'));
    const [file] = described?.fileDescriptorResponse?.fileDescriptorProto ?? [];
    assert.ok(Buffer.from(file ?? []).includes('PruningService'));
    const text = await (await fetch(`http://127.0.0.1:${pruner.metricsPort}/metrics`)).text();
    assert.match(text, /^grpc_server_handled_total\{.*grpc_method="CreateJob",grpc_code="OK"\} [1-9]/m);
  } finally {
    channel.close();
  }
});

test('over TLS and with a token', { skip: withoutOpenssl }, async () => {
  const authority = makeAuthority(root, 'authority');
  const { cert, key } = authority.issue('pruner');
  const authToken = 'a-token-for-the-pruner';
  const secured = { ...options, dataDirectory: join(root, 'secured'), tlsCert: cert, tlsKey: key, authToken };
  const guarded = await startPruner(secured, { logger, work: matrixPruning(() => undefined) });
  try {
    const list = async (connection: ConnectionOptions) => {
      const visitor = connectPruning(`127.0.0.1:${guarded.grpcPort}`, connection);
      return visitor.list().finally(() => visitor.close());
    };
    assert.deepEqual((await list({ tlsCa: authority.cert, authToken })).jobs, []);
    await assert.rejects(list({ tlsCa: authority.cert }), coded('UNAUTHENTICATED', /metadata authorization/));
    await assert.rejects(list({ authToken }), coded('UNAVAILABLE', /./));
  } finally {
    await guarded.stop();
  }
});
