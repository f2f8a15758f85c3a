/** One job, many hands: pruner and workers as processes on a PostgreSQL server, killed with SIGKILL in the middle; one plan, bit for bit. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { writeSmallModel } from '../libs/pruning/testing/small-model.js';
import { writeSmallText } from '../libs/pruning/testing/small-text-model.js';
import type { Database } from '../libs/store/database/database.js';
import { openPostgresql } from '../libs/store/database/postgresql.js';
import type { Manifest } from '../libs/store/manifest.js';
import { openRepository } from '../libs/store/repository.js';
import { findPostgresql, startPostgresql, type TestPostgresql } from '../libs/store/testing/postgresql.js';
import { connectPruning, type Job, JobState, type PruneWish } from '../services/pruner/client.js';

const main = fileURLToPath(new URL('../services/cli/main.js', import.meta.url));
const binaries = findPostgresql();
const skip = binaries ? false : 'PostgreSQL is not installed (apt-get install postgresql)';

interface Service {
  readonly child: ChildProcess;
  readonly exited: Promise<unknown>;
  readonly ready: { readonly grpcPort: number; readonly metricsPort: number };
}

describe('a job that workers share', { skip }, () => {
  let root: string;
  let server: TestPostgresql;
  let database: Database;
  const running = new Set<Service>();
  before(async () => {
    root = await mkdtemp(join(tmpdir(), 'heartwood-shared-'));
    server = await startPostgresql(binaries!);
    database = await openPostgresql(server.url);
    const model = await writeSmallModel(root, 2000);
    wish = { ...model, name: 'model', lossBudget: 0.05, units: ['tokens', 'heads'], shardSamples: 32, seed: 1 };
  });
  after(async () => {
    for (const { child } of running) child.kill('SIGKILL');
    await Promise.all([...running].map(({ exited }) => exited));
    await database.close();
    await server.stop();
    await rm(root, { recursive: true, force: true });
  });

  async function start(command: 'pruner' | 'worker', argv: readonly string[]): Promise<Service> {
    const common = ['--host', '127.0.0.1', '--metrics-port', '0', '--lease-seconds', '5', '--database', server.url];
    const child = spawn(process.execPath, [main, command, ...common, ...argv], { stdio: ['ignore', 'ignore', 'pipe'] });
    const exited = once(child, 'exit');
    const ready = await new Promise<Service['ready']>((resolve, reject) => {
      void exited.then(() => reject(new Error(`the ${command} ended before it was ready`)));
      createInterface({ input: child.stderr }).on('line', (line) => {
        const entry = JSON.parse(line) as { event?: string } & Service['ready'];
        if (entry.event === 'ready') resolve(entry);
      });
    });
    const service = { child, exited, ready };
    running.add(service);
    return service;
  }
  async function stop(service: Service): Promise<void> {
    service.child.kill('SIGTERM');
    await service.exited;
    running.delete(service);
  }
  async function kill(service: Service): Promise<void> {
    service.child.kill('SIGKILL');
    await service.exited;
    running.delete(service);
  }
  const startPruner = (folder: string) => {
    const folders = ['--repository', join(root, folder, 'models'), '--data-directory', join(root, folder, 'jobs')];
    return start('pruner', [...folders, '--port', '0', '--threads', '1']);
  };
  const startWorkers = (...threads: number[]) =>
    Promise.all(threads.map((count) => start('worker', ['--threads', String(count)])));

  let wish: PruneWish;

  async function submit({ ready }: Service, wish: PruneWish): Promise<string> {
    const client = connectPruning(`127.0.0.1:${ready.grpcPort}`);
    try {
      return (await client.create(wish)).id;
    } finally {
      client.close();
    }
  }
  async function ended({ ready }: Service, id: string): Promise<Job> {
    const client = connectPruning(`127.0.0.1:${ready.grpcPort}`);
    try {
      let job: Job | undefined;
      for await (job of client.watch(id));
      assert.equal(job!.state, JobState.JOB_STATE_SUCCEEDED, job!.error?.message);
      return job!;
    } finally {
      client.close();
    }
  }
  const published = async (folder: string): Promise<Pick<Manifest, 'plan' | 'files'>> => {
    const { plan, files } = await (await openRepository(join(root, folder, 'models'))).readManifest('model', 2);
    return { plan, files };
  };
  /** What a worker's metrics say of its shards. */
  async function taken({ ready }: Service): Promise<Record<string, number>> {
    const text = await (await fetch(`http://127.0.0.1:${ready.metricsPort}/metrics`)).text();
    const rows = text.matchAll(/^heartwood_shards_total\{outcome="(\w+)"\} (\d+)$/gm);
    return Object.fromEntries([...rows].map(([, outcome, count]) => [outcome!, Number(count)]));
  }
  /** Asks until the answer is there. */
  async function until<T>(ask: () => Promise<T | undefined>): Promise<T> {
    for (;;) {
      const found = await ask();
      if (found !== undefined) return found;
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
  const heldBy = ({ child }: Service) =>
    database.query<{ task: string; part: number }>(
      `SELECT task, part FROM heartwood.shards WHERE state = 'running' AND worker LIKE '%-' || $1 || '-%'`,
      [String(child.pid)],
    );
  const queued = () => database.query(`SELECT 1 FROM heartwood.shards WHERE state = 'queued'`);
  /**
   * Has the pruner stand still, with shards to be had, until the worker has one: else it might be done before the worker comes to look. Not
   * for long at a time, since it may hold a lock that the worker waits for.
   */
  async function leaveSome(pruner: Service, worker: Service, isOver: () => boolean): Promise<void> {
    for (let has = false; !has && !isOver();) {
      if ((await queued()).length === 0) continue;
      pruner.child.kill('SIGSTOP');
      for (let asked = 0; asked < 100 && !has; asked++) has = (await heldBy(worker)).length > 0;
      pruner.child.kill('SIGCONT');
    }
  }
  const leftovers = () =>
    database.query(
      `SELECT 'shard' AS what, job::text FROM heartwood.shards UNION ALL SELECT stage, job::text FROM heartwood.checkpoints
       UNION ALL SELECT name, state::text FROM heartwood_queue.job WHERE name = 'heartwood-shard'`,
    );

  test('the same plan and files without, with one and with three workers, of which one dies with a shard in hand', async () => {
    const alone = await startPruner('alone');
    await ended(alone, await submit(alone, wish));
    await stop(alone);
    const expected = await published('alone');

    const [helper] = await startWorkers(2);
    const assisted = await startPruner('assisted');
    const shared = await submit(assisted, wish);
    let over = false;
    const end = ended(assisted, shared).finally(() => (over = true));
    await Promise.all([end, leaveSome(assisted, helper!, () => over)]);
    assert.ok((await taken(helper!))['done']! > 0, 'the worker took some');
    assert.deepEqual(await published('assisted'), expected);
    await stop(assisted);

    const others = await startWorkers(1, 1);
    const pruner = await startPruner('killed');
    const id = await submit(pruner, wish);
    // Stopped, it can finish nothing any more: if the shard is still in its hands then, it dies with it.
    await until(async () => {
      if ((await heldBy(helper!)).length === 0) return undefined;
      helper!.child.kill('SIGSTOP');
      if ((await heldBy(helper!)).length > 0) return true;
      helper!.child.kill('SIGCONT');
      return undefined;
    });
    await kill(helper!);
    await ended(pruner, id);
    assert.deepEqual(await published('killed'), expected);
    await Promise.all([...others, pruner].map(stop));
    for (const { child } of [...others, pruner]) assert.equal(child.exitCode, 0);
    assert.deepEqual(await leftovers(), []);
  });

  test('workers go on while the pruner is dead, and it goes on with what they did', async () => {
    const first = await startPruner('dead');
    const workers = await startWorkers(1);
    const id = await submit(first, wish);
    await until(async () => ((await heldBy(first)).length > 0 ? true : undefined));
    first.child.kill('SIGSTOP');
    await kill(first);
    const done = await until(async () => {
      const [row] = await database.query<{ done: number; waiting: number }>(
        `SELECT count(*) FILTER (WHERE state = 'done')::integer AS done,
         count(*) FILTER (WHERE state <> 'done')::integer AS waiting FROM heartwood.shards WHERE job = $1`,
        [id],
      );
      return row!.waiting === 0 ? row!.done : undefined;
    });
    assert.equal(done, Math.ceil(1000 / 32), 'the worker has done all, what the dead pruner held included');
    const second = await startPruner('dead');
    const job = await ended(second, id);
    assert.equal(job.attempts, 2);
    assert.deepEqual(await published('dead'), await published('alone'));
    await Promise.all([...workers, second].map(stop));
  });

  test('a language model goes the same road', async () => {
    const text = await writeSmallText(join(root, 'text'));
    const asked: PruneWish = {
      ...text,
      name: 'model',
      flopsSaved: 0.1,
      units: ['heads', 'neurons'],
      shardSamples: 4,
      seed: 1,
    };
    const alone = await startPruner('text-alone');
    await ended(alone, await submit(alone, asked));
    await stop(alone);
    const workers = await startWorkers(1, 1);
    const pruner = await startPruner('text-shared');
    await ended(pruner, await submit(pruner, asked));
    assert.deepEqual(await published('text-shared'), await published('text-alone'));
    await Promise.all([...workers, pruner].map(stop));
  });
});
