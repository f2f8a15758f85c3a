import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { JobRecord } from '../../libs/store/jobs/job.js';
import { Jobs } from '../../libs/store/jobs/jobs.js';
import { openRepository } from '../../libs/store/repository.js';
import { findPostgresql, startPostgresql } from '../../libs/store/testing/postgresql.js';
import { createLogger } from '../../libs/telemetry/log.js';
import { connectPruning } from './client.js';
import { startPruner } from './pruner.js';
import { matrixPruning } from './testing/matrix-pruning.js';
import { startWorker } from './worker.js';

const root = mkdtempSync(join(tmpdir(), 'heartwood-worker-'));
after(() => rmSync(root, { recursive: true, force: true }));
const binaries = findPostgresql();
const skip = binaries ? false : 'PostgreSQL is not installed (apt-get install postgresql)';
const logger = createLogger('test', 'silent');

test(
  'a worker takes jobs beside the pruner, and goes on with the one in hand when the pruner stops',
  { skip },
  async (context) => {
    const server = await startPostgresql(binaries!);
    context.after(() => server.stop());
    const model = join(root, 'tiny-vit');
    mkdirSync(model);
    writeFileSync(join(model, 'config.json'), '{}');
    const shared = {
      repository: join(root, 'repository'),
      database: server.url,
      host: '127.0.0.1',
      heartbeatMs: 20,
      pollMs: 20,
    };
    const options = (name: string) => ({ ...shared, dataDirectory: join(root, name), port: 0, metricsPort: 0 });
    let begun!: () => void;
    const reached = new Promise<void>((resolve) => (begun = resolve));
    // Held until it is told to stop: else it might be done before it is.
    const holding = matrixPruning((stage, step, signal) => {
      if (stage !== 'iterate' || step !== 2) return;
      begun();
      return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
    });
    const pruner = await startPruner(options('pruner'), { logger, work: holding });
    const client = connectPruning(`127.0.0.1:${pruner.grpcPort}`);
    const wish = { modelDirectory: model, data: 'demo:digits', lossBudget: 0.1 };
    const inHand = await client.create(wish);
    await reached;
    const seen: string[] = [];
    const worker = await startWorker(options('worker'), {
      logger,
      work: matrixPruning((stage) => void seen.push(stage)),
    });
    const onlooker = await Jobs.open({ directory: join(root, 'onlooker'), database: server.url, pollMs: 20 });
    const finished = async (id: string): Promise<JobRecord> => {
      let job: JobRecord | undefined;
      for await (job of onlooker.watch(id, new AbortController().signal));
      return job!;
    };
    const other = await client.create(wish);
    const others = await finished(other.id);
    assert.deepEqual([others.state, others.attempts], ['succeeded', 1]);
    assert.ok(seen.includes('draw'));
    assert.equal((await onlooker.get(inHand.id)).state, 'running', 'the pruner still holds its own');

    client.close();
    seen.length = 0;
    await pruner.stop();
    const job = await finished(inHand.id);
    assert.deepEqual([job.state, job.attempts], ['succeeded', 2]);
    assert.ok(!seen.includes('draw'), 'the stage that the pruner completed came from the database');
    const repository = await openRepository(shared.repository);
    const plans = await Promise.all([1, 2].map(async (version) => (await repository.verify('tiny-vit', version)).plan));
    assert.deepEqual(plans[0], plans[1]);
    await onlooker.close();
    await worker.stop();
  },
);

test('a worker without a repository says how it is, and that it has no database', { skip }, async () => {
  const server = await startPostgresql(binaries!);
  let up = true;
  const worker = await startWorker({ database: server.url, host: '127.0.0.1', metricsPort: 0, pollMs: 20 }, { logger });
  try {
    const ask = async (path: string) => {
      const answer = await fetch(`http://127.0.0.1:${worker.metricsPort}${path}`);
      return [answer.status, (await answer.text()).trim()] as const;
    };
    assert.deepEqual(await ask('/healthz'), [200, 'alive']);
    assert.deepEqual(await ask('/readyz'), [200, 'ready']);
    const [, metrics] = await ask('/metrics');
    for (const outcome of ['done', 'failed', 'refused', 'released', 'lost'])
      assert.match(metrics, new RegExp(`^heartwood_shards_total\\{outcome="${outcome}"\\} 0$`, 'm'));
    assert.match(metrics, /^heartwood_shards\{state="queued"\} 0$/m);
    await server.stop();
    up = false;
    const [status, reason] = await ask('/readyz');
    assert.equal(status, 503);
    assert.match(reason, /^database 127\.0\.0\.1/);
    assert.equal((await ask('/healthz'))[0], 200);
  } finally {
    await worker.stop();
    if (up) await server.stop();
  }
});

test('a worker that is told to end while its database says nothing ends at once, and leaves no files', async (context) => {
  const silent = createServer().listen(0, '127.0.0.1');
  context.after(() => silent.close());
  await once(silent, 'listening');
  const { port } = silent.address() as AddressInfo;
  const dataDirectory = join(root, 'started-in-vain');
  const stopping = new AbortController();
  const asked = once(silent, 'connection');
  const start = startWorker(
    { database: `postgres://nobody@127.0.0.1:${port}/none`, dataDirectory, host: '127.0.0.1', metricsPort: 0 },
    { logger, signal: stopping.signal },
  );
  const refused = assert.rejects(start, { name: 'AbortError' });
  const [socket] = (await asked) as [Socket];
  stopping.abort();
  await refused;
  assert.deepEqual(readdirSync(dataDirectory), []);
  socket.destroy();
});
